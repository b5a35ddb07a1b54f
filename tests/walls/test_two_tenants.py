"""Two tenants at work, in any order, each also reaching for what is the other's: what each sees follows from their own acts alone.

A plain model of one tenant says what its owner, its held member and its customer see; the other tenant is not in it.
"""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth.credentials import issue
from auth.scopes import Holder, scopes_of
from auth.tokens import Kind
from models.customer import Customer
from models.device import DeviceGroup
from models.global_ids import global_id
from models.organization import Member
from tests.connected import a_product
from tests.house import HouseTester

PATHS = ("a", "a/b", "c")
VIEW = """query ($product: Int!) { product(productId: $product) {
  devices(orderBy: DEVICE_ID) { totalCount nodes { deviceId name owner { username } groups { path } } }
  groups { path devices { totalCount } } fleet { total } customers { totalCount } } }"""
MINE = "{ viewer { devices { nodes { deviceId name } } } }"
numbers = itertools.count(5000)  # one database sees many programs


@dataclass
class Tenant:
    """One tenant: how it is reached, and the model of it."""

    tester: HouseTester
    word: str
    number: int
    owner: str
    held: str
    kim: str
    seat: str
    customer: str
    group_ids: dict[str, str]
    ids: list[str]
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)  # name, owned, groups
    grants: set[tuple[str, str]] = field(default_factory=set)  # who ("held", "kim") and which group

    # ── what is seen, by the model ──
    def inside(self, who: str) -> set[str]:
        """The groups that somebody was granted, with those below."""
        tops = [path for each, path in self.grants if each == who]
        return {path for path in PATHS for top in tops if path == top or path.startswith(f"{top}/")}

    def team_sees(self, groups: set[str]) -> list[Any]:
        """The devices and the counts, for somebody of the team who sees these groups; all of them: the product whole."""
        is_whole = groups == {*PATHS, ""}
        devices = {key: row for key, row in sorted(self.devices.items()) if is_whole or row["groups"] & groups}
        shown = [
            {"deviceId": key, "name": row["name"], "owner": {"username": "kim"} if row["owned"] else None,
             "groups": [{"path": path} for path in sorted(row["groups"] & groups)]}
            for key, row in devices.items()
        ]  # fmt: skip
        counted = [
            {"path": path, "devices": {"totalCount": sum(any(_is_in(each, path) for each in row["groups"]) for row in devices.values())}}
            for path in sorted(groups - {""})
        ]
        knows_kim = (
            is_whole or any(row["owned"] for row in devices.values()) or any(who == "kim" and path in groups for who, path in self.grants)
        )
        return [shown, len(shown), counted, len(shown), int(knows_kim)]

    def customer_sees(self) -> list[Any]:
        groups = self.inside("kim")
        return [
            {"deviceId": key, "name": row["name"]} for key, row in sorted(self.devices.items()) if row["owned"] or row["groups"] & groups
        ]

    async def must_see_what_the_model_says(self) -> None:
        whole = {*PATHS, ""}
        for token, groups in ((self.owner, whole), (self.held, self.inside("held") or whole)):
            seen = (await self.tester.ask(VIEW, token, product=self.number))["product"]
            found = [
                seen["devices"]["nodes"],
                seen["devices"]["totalCount"],
                seen["groups"],
                seen["fleet"]["total"],
                seen["customers"]["totalCount"],
            ]
            assert found == self.team_sees(groups)
        assert (await self.tester.ask(MINE, self.kim))["viewer"]["devices"]["nodes"] == self.customer_sees()

    async def does(self, mutation: str, **input: Any) -> list[str]:
        payload = await self.tester.do(mutation, "clientMutationId", self.owner, **input)
        return [error["code"] for error in payload["errors"]]


def _is_in(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


# ── acts: each on one's own, or, with `at` another, on what is the other's ──
async def adds(me: Tenant, at: Tenant, device: int, _: int) -> list[str]:
    codes = await me.does("importDevices", productId=at.number, deviceIds=[me.ids[device]])
    if at is me and not codes:
        me.devices.setdefault(me.ids[device], {"name": None, "owned": False, "groups": set()})
    return codes


async def names(me: Tenant, at: Tenant, device: int, choice: int) -> list[str]:
    codes = await me.does("updateDevice", deviceId=at.ids[device], name=f"{me.word} {choice}")
    if not codes:
        me.devices[me.ids[device]]["name"] = f"{me.word} {choice}"
    return codes


async def moves_in(me: Tenant, at: Tenant, device: int, choice: int) -> list[str]:
    """The other's device into a group of one's own: the first step to seeing it."""
    path = PATHS[choice % 3]
    codes = await me.does("addDevicesToGroup", groupId=me.group_ids[path], deviceIds=[at.ids[device]])
    if not codes:
        me.devices[me.ids[device]]["groups"].add(path)
    return codes


async def moves_out(me: Tenant, at: Tenant, device: int, choice: int) -> list[str]:
    path = PATHS[choice % 3]
    codes = await me.does("removeDevicesFromGroup", groupId=at.group_ids[path], deviceIds=[at.ids[device]])
    if not codes:
        me.devices[me.ids[device]]["groups"].discard(path)
    return codes


async def assigns(me: Tenant, at: Tenant, device: int, _: int) -> list[str]:
    """The other's device to one's own customer."""
    codes = await me.does("assignDevice", deviceId=at.ids[device], customerId=me.customer)
    if not codes:
        me.devices[me.ids[device]]["owned"] = True
    return codes


async def takes_back(me: Tenant, at: Tenant, device: int, _: int) -> list[str]:
    codes = await me.does("unclaimDevice", deviceId=at.ids[device])
    if not codes:
        me.devices[me.ids[device]]["owned"] = False
    return codes


async def removes(me: Tenant, at: Tenant, device: int, _: int) -> list[str]:
    codes = await me.does("removeDevices", deviceIds=[at.ids[device]])
    if not codes:
        del me.devices[me.ids[device]]
    return codes


async def shares(me: Tenant, at: Tenant, who: int, choice: int) -> list[str]:
    """The other's group with one's own people."""
    name, path = ("held", "kim")[who % 2], PATHS[choice % 3]
    codes = await me.does("grantGroupAccess", groupId=at.group_ids[path], **_to(me, name))
    if not codes:
        me.grants.add((name, path))
    return codes


async def stops_sharing(me: Tenant, at: Tenant, who: int, choice: int) -> list[str]:
    name, path = ("held", "kim")[who % 2], PATHS[choice % 3]
    codes = await me.does("revokeGroupAccess", groupId=me.group_ids[path], **_to(at, name))
    if not codes:
        me.grants.discard((name, path))
    return codes


def _to(tenant: Tenant, name: str) -> dict[str, str]:
    return {"memberId": tenant.seat} if name == "held" else {"customerId": tenant.customer}


Act = Callable[[Tenant, Tenant, int, int], Awaitable[list[str]]]
ACTS: tuple[Act, ...] = (adds, names, moves_in, moves_out, assigns, takes_back, removes, shares, stops_sharing)
program = st.lists(
    st.tuples(st.integers(0, 1), st.booleans(), st.sampled_from(ACTS), st.integers(0, 2), st.integers(0, 2)), min_size=12, max_size=25
)  # fmt: skip


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=program)
async def test_what_a_tenant_sees_follows_from_its_own_acts(postgres_tester: HouseTester, program: list[Any]) -> None:
    tenants = [await _tenant(postgres_tester, next(numbers)) for _ in range(2)]
    for place, reaches_over, act, device, choice in program:
        me, other = tenants[place], tenants[1 - place]
        codes = await act(me, other if reaches_over else me, device, choice)

        if reaches_over:
            assert codes == ["NOT_FOUND"], act
        for tenant in tenants:
            await tenant.must_see_what_the_model_says()


async def _tenant(tester: HouseTester, number: int) -> Tenant:
    word, now = f"t{number}", datetime.now(UTC)
    owner = await tester.owner(word, word)
    product = await a_product(tester, number, organization=word)
    groups: dict[str, DeviceGroup] = {}
    for path in PATHS:
        above = groups.get(path.rpartition("/")[0])
        groups[path] = await DeviceGroup.create(product=product, parent=above, name=path[-1], path=path, created_at=now)
    held = await tester.member(owner, f"{word}h", "DEVELOPER", word)
    kim = await Customer.create(product=product, username="kim", username_key="kim", created_at=now)
    token, _ = await issue(Kind.CUSTOMER, owner=kim, now=now, scopes=scopes_of(Holder.CUSTOMER))
    return Tenant(
        tester, word, number, owner, held, token.text,
        seat=global_id("Member", (await Member.get(user__email_key=f"{word}h@example.com")).id),
        customer=global_id("Customer", kim.id),
        group_ids={path: global_id("DeviceGroup", group.id) for path, group in groups.items()},
        ids=[f"{number:020x}{n:04x}" for n in range(3)],
    )  # fmt: skip
