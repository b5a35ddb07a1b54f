"""Groups as walls: each viewer sees exactly what was granted, in lists, counts, errors, events, functions and streams."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from auth.credentials import issue
from auth.scopes import Holder, scopes_of
from auth.tokens import Kind
from models.account import ApiUser
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupGrant, GroupMembership
from models.firmware import GroupRelease
from models.global_ids import global_id
from models.organization import Member, Organization
from models.product import Product
from realtime.log import NewEntry
from tests.connected import a_device, a_product, order, subscribed
from tests.firmware_house import uploaded
from tests.house import GraphQLFailed, HouseTester

LOOSE, TOP, MIDDLE, BOTTOM, ASIDE = (f"{n:024x}" for n in range(1, 6))  # in no group, "a", "a/b", "a/b/c" and "x"
PLACES = {TOP: "a", MIDDLE: "a/b", BOTTOM: "a/b/c", ASIDE: "x"}
GRANT = "group { access { member { user { email } } customer { username } apiUser { name } } }"
EVENTS = "subscription ($group: String) { events(productId: 1094, group: $group) { event { name deviceId } } }"
STATUS = "subscription ($id: DeviceID) { deviceStatus(productId: 1094, deviceId: $id) { change device { deviceId } } }"
VIEW = """{ product(productId: 1094) {
  devices(orderBy: DEVICE_ID) { totalCount nodes { deviceId groups { path } owner { username } } }
  found: devices(filter: { search: "lamp" }, orderBy: DEVICE_ID) { totalCount nodes { deviceId } }
  others: devices(filter: { not: { firmwareVersion: 9 } }) { totalCount }
  groups { path parent { path } children { path } devices { totalCount } }
  fleet { total online customersActive customersInactive usage { customer { username } events }
          firmwareVersions { version devices } errors { name count devices } }
  customers { totalCount nodes { username lastActiveAt devices { totalCount } } }
  events { totalCount nodes { name deviceId } }
  imports { totalCount }
  firmware(version: 2) { runningOn groups { path } }
  aside: device(deviceId: "000000000000000000000005") { deviceId }
  middle: device(deviceId: "000000000000000000000003") { deviceId }
  asideGroup: group(name: "x") { path }
} }"""


@dataclass
class Tree:
    """A product with groups a, a/b, a/b/c and x, one device in each and one in none; the customers "in" and "across" own some."""

    tester: HouseTester
    owner: str
    product: Product
    groups: dict[str, DeviceGroup]
    customers: dict[str, Customer]
    tokens: dict[str, str]

    async def grant(self, path: str, who: str, mutation: str = "grantGroupAccess", token: str | None = None) -> Any:
        given = {"groupId": global_id("DeviceGroup", self.groups[path].id), **await self._input(who)}
        return await self.tester.do(mutation, GRANT, token or self.owner, **given)

    async def _input(self, who: str) -> dict[str, str]:
        if who in self.customers:
            return {"customerId": global_id("Customer", self.customers[who].id)}
        if machine := await ApiUser.filter(name=who).first():
            return {"apiUserId": global_id("ApiUser", machine.id)}
        return {"memberId": global_id("Member", (await Member.get(user__email_key=f"{who}@example.com")).id)}

    async def publish(self, *device_ids: str | None, name: str = "error/hot") -> None:
        owners = dict(await Device.all().values_list("device_id", "owner_id"))
        for device_id in device_ids:
            await self.tester.house.flusher.publish(
                NewEntry(1094, "event", name, datetime.now(UTC), device_id, "1"), owner=owners.get(device_id)
            )

    async def view(self, who: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.tester.ask(VIEW, self.tokens[who]))["product"]
        return found


@pytest.fixture
async def tree(tester: HouseTester) -> Tree:
    owner, now = await tester.owner(), datetime.now(UTC)
    product = await a_product(tester)
    groups: dict[str, DeviceGroup] = {}
    for path in ("a", "a/b", "a/b/c", "x"):
        above = groups.get(path.rpartition("/")[0])
        groups[path] = await DeviceGroup.create(product=product, name=path[-1], path=path, parent=above, created_at=now)
    said = {"reported_product_id": 1094, "platform": "PHOTON", "firmware_version": 2, "proven": True, "functions": ["blink"]}
    for device_id in (LOOSE, *PLACES):
        await a_device(product, device_id, name="Lamp", **said)
    for device_id, path in PLACES.items():
        await GroupMembership.create(group=groups[path], device_id=device_id)
    tokens, customers = {"owner": owner}, {}
    for who in ("in", "across", "guest"):
        customers[who] = await Customer.create(product=product, username=who, username_key=who, created_at=now)
        minted, _ = await issue(Kind.CUSTOMER, owner=customers[who], now=now, scopes=scopes_of(Holder.CUSTOMER))
        tokens[who] = minted.text
    await Device.filter(device_id=BOTTOM).update(owner_id=customers["in"].id)
    await Device.filter(device_id__in=[MIDDLE, ASIDE]).update(owner_id=customers["across"].id)
    tokens["dev"] = await tester.member(owner, "dev", "DEVELOPER")
    tokens["admin"] = await tester.member(owner, "admin", "ADMIN")
    scopes = list(scopes_of(Holder.API_USER))
    machine = await ApiUser.create(organization=await Organization.get(slug="acme"), name="machine", scopes=scopes, created_at=now)
    tokens["machine"] = (await issue(Kind.API_USER, owner=machine, now=now))[0].text
    [firmware] = await uploaded(tester, owner, 1094, 2)
    for path in ("a", "a/b/c", "x"):
        await GroupRelease.create(group=groups[path], firmware=firmware, released_at=now)
    return Tree(tester, owner, product, groups, customers, tokens)


def ids(page: dict[str, Any]) -> list[str]:
    return [node["deviceId"] for node in page["nodes"]]


def seen_from_b(view: dict[str, Any]) -> None:
    """Everything agrees with the subtree a/b, and nothing tells of more."""
    inside = [MIDDLE, BOTTOM]
    fleet = view["fleet"]
    assert (ids(view["devices"]), view["devices"]["totalCount"], ids(view["found"]), view["found"]["totalCount"]) == (inside, 2, inside, 2)
    assert view["others"]["totalCount"] == 2
    assert [[each["path"] for each in node["groups"]] for node in view["devices"]["nodes"]] == [["a/b"], ["a/b/c"]]
    assert view["groups"] == [
        {"path": "a/b", "parent": None, "children": [{"path": "a/b/c"}], "devices": {"totalCount": 2}},
        {"path": "a/b/c", "parent": {"path": "a/b"}, "children": [], "devices": {"totalCount": 1}},
    ]
    assert (fleet["total"], fleet["firmwareVersions"]) == (2, [{"version": 2, "devices": 2}])
    assert fleet["errors"] == [{"name": "error/hot", "count": 2, "devices": 2}]
    # "across" owns something outside: what they do there is not told, so nothing is.
    assert (fleet["customersActive"], fleet["customersInactive"]) == (1, 0)
    assert fleet["usage"] == [{"customer": {"username": "in"}, "events": 1}]
    customers = {node["username"]: (node["lastActiveAt"] is not None, node["devices"]["totalCount"]) for node in view["customers"]["nodes"]}
    assert (customers, view["customers"]["totalCount"]) == ({"in": (True, 1), "across": (False, 1)}, 2)
    assert (sorted(ids(view["events"])), view["events"]["totalCount"]) == (inside, 2)
    assert view["imports"]["totalCount"] == 0
    assert view["firmware"] == {"runningOn": 2, "groups": [{"path": "a/b/c"}]}
    assert (view["aside"], view["middle"], view["asideGroup"]) == (None, {"deviceId": MIDDLE}, None)


@pytest.mark.parametrize("who", ["dev", "machine"])
async def test_a_member_or_machine_with_a_grant_sees_that_subtree_and_nothing_else(tree: Tree, who: str) -> None:
    await tree.publish(LOOSE, TOP, MIDDLE, BOTTOM, ASIDE, None)
    before = await tree.view(who)

    granted = await tree.grant("a/b", who)

    assert (before["devices"]["totalCount"], before["events"]["totalCount"], before["fleet"]["errors"][0]["count"]) == (5, 6, 5)
    assert before["imports"]["totalCount"] == 0
    assert [[kind for kind, value in row.items() if value] for row in granted["group"]["access"]] == [
        ["member" if who == "dev" else "apiUser"]
    ]
    seen_from_b(await tree.view(who))
    await tree.grant("a/b", who, "revokeGroupAccess")
    assert await tree.view(who) == before


async def test_a_granted_customer_has_the_devices_of_the_group_as_their_own_and_no_more(tree: Tree) -> None:
    mine = "{ viewer { devices { totalCount nodes { deviceId owner { username } groups { path } notes } } } }"
    before = (await tree.tester.ask(mine, tree.tokens["guest"]))["viewer"]["devices"]
    await tree.grant("a/b", "guest")
    after = (await tree.tester.ask(mine, tree.tokens["guest"]))["viewer"]["devices"]
    await Device.filter(device_id=MIDDLE).update(state="QUARANTINED")
    active = (await tree.tester.ask(mine, tree.tokens["guest"]))["viewer"]["devices"]
    call = {"name": "blink", "argument": ""}
    answers = [
        (await tree.tester.do("callFunction", "returnValue", tree.tokens["guest"], deviceId=each, **call))["errors"][0]["code"]
        for each in (BOTTOM, TOP, ASIDE)
    ]

    assert before["totalCount"] == 0
    assert after["totalCount"] == 2
    assert after["nodes"] == [{"deviceId": each, "owner": None, "groups": [], "notes": None} for each in (MIDDLE, BOTTOM)]
    assert ids(active) == [BOTTOM]
    assert answers == ["DEVICE_OFFLINE", "NOT_FOUND", "NOT_FOUND"]  # the first was let through to the device
    for path in ("a/b", "x"):
        await tree.grant(path, "guest", "revokeGroupAccess")
    assert (await tree.tester.ask(mine, tree.tokens["guest"]))["viewer"]["devices"]["totalCount"] == 0


async def test_a_held_developer_acts_inside_only_and_what_is_outside_is_not_found(tree: Tree) -> None:
    await tree.grant("a/b", "dev")
    tester, dev, b = tree.tester, tree.tokens["dev"], global_id("DeviceGroup", tree.groups["a/b"].id)

    async def code(mutation: str, **input: Any) -> Any:
        return [error["code"] for error in (await tester.do(mutation, "clientMutationId", dev, **input))["errors"]]

    flashed = await tester.do(
        "lockAndFlash", "devices { deviceId } rejected { deviceId code }", dev,
        productId=1094, firmwareVersion=2, when="ON_RESET", deviceIds=[MIDDLE, ASIDE, LOOSE],
    )  # fmt: skip
    pulled = await tester.do("addDevicesToGroup", "rejected { deviceId code }", dev, groupId=b, deviceIds=[ASIDE, BOTTOM])

    assert (flashed["devices"], sorted(each["code"] for each in flashed["rejected"])) == ([{"deviceId": MIDDLE}], ["NOT_FOUND"] * 2)
    assert pulled["rejected"] == [{"deviceId": ASIDE, "code": "NOT_FOUND"}]
    assert await code("lockAndFlash", productId=1094, firmwareVersion=2, when="ON_RESET", group="x") == ["NOT_FOUND"]
    assert await code("unlockDevices", productId=1094, deviceIds=[ASIDE]) == ["NOT_FOUND"]
    assert await code("releaseFirmware", productId=1094, version=2) == ["FORBIDDEN"]
    assert await code("releaseFirmware", productId=1094, version=2, group="a") == ["NOT_FOUND"]
    assert await code("releaseFirmware", productId=1094, version=2, group="a/b") == []
    assert await code("createDeviceGroup", productId=1094, name="top") == ["FORBIDDEN"]
    assert await code("createDeviceGroup", productId=1094, name="new", parent="x") == ["NOT_FOUND"]
    assert await code("createDeviceGroup", productId=1094, name="new", parent="a/b") == []
    assert await code("renameDeviceGroup", id=b, name="c") == ["FORBIDDEN"]  # "a/c" may be there or not
    assert await code("importDevices", productId=1094, deviceIds=["f" * 24]) == ["FORBIDDEN"]
    assert await code("registerDevice", deviceId=ASIDE) == ["NOT_FOUND"]
    assert await code("registerDevice", deviceId=MIDDLE) == []
    assert await Device.filter(device_id=ASIDE).values_list("desired_firmware_version", "secret") == [(None, None)]
    assert await GroupMembership.filter(device_id=ASIDE).count() == 1
    assert await GroupRelease.filter(group__path="a/b").count() == 1


async def test_a_grant_changes_nothing_twice_and_only_within_one_product_and_team(tree: Tree) -> None:
    await tree.grant("a", "guest")
    audited = await tree.tester.audited()
    again = await tree.grant("a", "guest")
    nothing = await tree.grant("x", "guest", "revokeGroupAccess")
    other = await Customer.create(
        product=await a_product(tree.tester, 2000), username="else", username_key="else", created_at=datetime.now(UTC)
    )
    tree.customers["else"] = other
    elsewhere = await tree.grant("a", "else")
    admin = await tree.grant("a", "admin")
    group = global_id("DeviceGroup", tree.groups["a"].id)
    nobody = await tree.tester.do("grantGroupAccess", GRANT, tree.owner, groupId=group)

    assert (again["errors"], nothing["errors"]) == ([], [])
    assert [(each["errors"][0]["code"], each["errors"][0]["path"]) for each in (elsewhere, admin, nobody)] == [
        ("NOT_FOUND", ["input", "customerId"]), ("INVALID_INPUT", ["input", "memberId"]), ("INVALID_INPUT", ["input", "memberId"]),
    ]  # fmt: skip
    assert await tree.tester.audited() == audited
    assert audited[-1] == "group.granted"
    assert await GroupGrant.all().count() == 1


async def test_only_those_who_run_the_team_hold_its_people_inside(tree: Tree) -> None:
    developer = await tree.tester.member(tree.owner, "ned", "DEVELOPER")

    codes = [(await tree.grant("a", who, token=developer))["errors"] for who in ("dev", "machine", "guest")]

    assert [errors[0]["code"] if errors else "done" for errors in codes] == ["FORBIDDEN", "FORBIDDEN", "done"]
    assert await GroupGrant.filter(customer_id=None).count() == 0


async def test_a_group_that_holds_somebody_cannot_be_deleted_from_around_them(tree: Tree) -> None:
    await tree.grant("x", "dev")
    await tree.grant("x", "guest")
    group = global_id("DeviceGroup", tree.groups["x"].id)

    refused = await tree.tester.do("deleteDeviceGroup", "clientMutationId", tree.owner, id=group)
    seen = (await tree.view("dev"))["devices"]["totalCount"]
    await tree.grant("x", "dev", "revokeGroupAccess")
    done = await tree.tester.do("deleteDeviceGroup", "clientMutationId", tree.owner, id=group)

    assert ([error["code"] for error in refused["errors"]], seen, done["errors"]) == (["INVALID_INPUT"], 1, [])
    assert await GroupGrant.all().count() == 0


async def test_a_held_machine_does_not_read_what_the_whole_team_did(tree: Tree) -> None:
    audit = '{ organization(slug: "acme") { auditLog { totalCount } } }'
    before = (await tree.tester.ask(audit, tree.tokens["machine"]))["organization"]["auditLog"]["totalCount"]
    await tree.grant("a/b", "machine")
    with pytest.raises(GraphQLFailed) as refused:
        await tree.tester.ask(audit, tree.tokens["machine"])

    assert (before > 0, refused.value.codes) == (True, ["FORBIDDEN"])


async def test_an_admin_is_held_by_nothing_and_a_smaller_role_is_held_again(tree: Tree) -> None:
    await tree.grant("a/b", "dev")
    member = global_id("Member", (await Member.get(user__email_key="dev@example.com")).id)
    counts = []
    for role in ("ADMIN", "VIEWER"):
        await tree.tester.do("changeMemberRole", "member { role }", tree.owner, memberId=member, role=role)
        counts.append((await tree.view("dev"))["devices"]["totalCount"])

    assert counts == [5, 2]


# ── streams ──
async def test_a_running_stream_of_a_product_follows_the_grants_and_the_groups(tree: Tree) -> None:
    """One stream for each kind of viewer; the last event of each turn is one that all see, so that all before it have been judged."""
    await tree.grant("a/b", "dev")
    await tree.grant("a/b", "guest")
    async with (
        subscribed(tree.tester, EVENTS, tree.tokens["dev"], group=None) as dev,
        subscribed(tree.tester, EVENTS, tree.tokens["guest"], group=None) as guest,
        subscribed(tree.tester, EVENTS, tree.tokens["in"], group=None) as owner_of_bottom,
    ):
        await tree.publish(TOP, MIDDLE, ASIDE, None, BOTTOM, name="one")
        first = [await stream.take(count) for stream, count in ((dev, 2), (guest, 2), (owner_of_bottom, 1))]
        await GroupMembership.filter(device_id=MIDDLE).delete()
        await GroupMembership.create(group=tree.groups["a/b"], device_id=ASIDE)
        await tree.publish(MIDDLE, ASIDE, BOTTOM, name="two")
        second = [await stream.take(count) for stream, count in ((dev, 2), (guest, 2), (owner_of_bottom, 1))]
        await tree.grant("a/b", "guest", "revokeGroupAccess")
        await tree.grant("x", "dev")
        await asyncio.sleep(1.0)  # the promise: by now it counts everywhere
        await tree.publish(BOTTOM, name="three")
        third = [await stream.take(1) for stream in (dev, owner_of_bottom)]

        assert await guest.is_silent()
    shown = [[[message["event"]["deviceId"] for message in stream] for stream in part] for part in (first, second, third)]
    assert shown == [
        [[MIDDLE, BOTTOM], [MIDDLE, BOTTOM], [BOTTOM]],
        [[ASIDE, BOTTOM], [ASIDE, BOTTOM], [BOTTOM]],
        [[BOTTOM], [BOTTOM]],
    ]


async def test_a_customers_stream_of_a_device_ends_within_a_second_of_its_leaving_the_group(tree: Tree) -> None:
    await tree.grant("x", "guest")
    async with subscribed(tree.tester, STATUS, tree.tokens["guest"], id=ASIDE) as stream:
        snapshot = await stream.next()
        group = global_id("DeviceGroup", tree.groups["x"].id)
        await tree.tester.do("removeDevicesFromGroup", "clientMutationId", tree.owner, groupId=group, deviceIds=[ASIDE])
        await order(tree.product, "ONLINE", ASIDE, kind="status")  # already not theirs to see
        with pytest.raises(GraphQLFailed) as refused:
            await stream.next()

    assert snapshot["change"] == "SNAPSHOT"
    assert refused.value.codes == ["NOT_FOUND"]


@pytest.mark.parametrize("who", ["dev", "guest"])
async def test_a_group_outside_cannot_be_named_in_a_stream(tree: Tree, who: str) -> None:
    await tree.grant("a/b", who)
    codes = []
    for group in ("x", "a", "no/such"):
        with pytest.raises(GraphQLFailed) as refused:
            async with subscribed(tree.tester, EVENTS, tree.tokens[who], group=group):
                pass
        codes += refused.value.codes
    async with subscribed(tree.tester, EVENTS, tree.tokens[who], group="a/b/c") as stream:
        await tree.publish(MIDDLE, BOTTOM)

        assert (await stream.next())["event"]["deviceId"] == BOTTOM
    assert codes == ["NOT_FOUND"] * 3
