"""Roles in one product: what counts where, who gives them, and that a product which is nobody's business is not there."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.seats import count_seats
from models.account import ApiUser
from models.device import DeviceGroup, GroupMembership
from models.global_ids import global_id
from models.operations import AuditEntry
from models.organization import Member, Organization, ProductRole
from models.product import Product
from tests.connected import a_device, a_product
from tests.house import GraphQLFailed, HouseTester
from tests.stored import whatever_a_refusal_must_leave_alone

LAMP, FAN = 1094, 1095
IN_LAMP, IN_FAN = "a" * 24, "b" * 24
MEMBER = "member { role productRoles { product { productId } role } }"
SEEN = """{ organization(slug: "acme") { name products { totalCount nodes { productId myRole } } }
  lamp: product(productId: 1094) { slug myRole devices { totalCount } fleet { total } }
  fan: product(productId: 1095) { slug myRole devices { totalCount } fleet { total } }
  inLamp: device(deviceId: "aaaaaaaaaaaaaaaaaaaaaaaa") { deviceId }
  inFan: device(deviceId: "bbbbbbbbbbbbbbbbbbbbbbbb") { deviceId } }"""


@dataclass
class Team:
    """Acme with the products Lamp and Fan, one device in each; `owner` is Ann's token."""

    tester: HouseTester
    owner: str
    lamp: Product
    fan: Product

    async def entrust(self, name: str, role: str, *, product: int = LAMP, by: str | None = None) -> Any:
        given = {"productId": product, "memberId": await seat_of(name), "role": role}
        return await self.tester.do("setProductRole", MEMBER, by or self.owner, **given)

    async def release(self, name: str, *, product: int = LAMP, by: str | None = None) -> Any:
        return await self.tester.do("removeProductRole", MEMBER, by or self.owner, productId=product, memberId=await seat_of(name))

    async def renames(self, token: str, product: int) -> list[str]:
        """The codes with which a developer's act in the product is refused."""
        payload = await self.tester.do("updateProduct", "product { name }", token, productId=product, name="Another")
        return [error["code"] for error in payload["errors"]]

    async def sees(self, token: str) -> Any:
        return await self.tester.ask(SEEN, token)


async def seat_of(name: str) -> str:
    return global_id("Member", (await Member.get(user__email=f"{name}@example.com")).id)


async def refused(team: Team, payload_of: Any) -> tuple[str, list[str] | None]:
    """The one refusal, which has changed nothing."""
    before = await whatever_a_refusal_must_leave_alone()
    (error,) = (await payload_of)["errors"]
    assert await whatever_a_refusal_must_leave_alone() == before
    return error["code"], error["path"]


@pytest.fixture
async def team(tester: HouseTester) -> Team:
    return await a_team(tester)


async def a_team(tester: HouseTester) -> Team:
    owner = await tester.owner()
    lamp, fan = await a_product(tester, LAMP), await a_product(tester, FAN)
    await a_device(lamp, IN_LAMP)
    await a_device(fan, IN_FAN)
    return Team(tester, owner, lamp, fan)


# ── what counts where ──
async def test_whoever_has_a_role_in_one_product_alone_sees_that_product_and_the_name_of_the_team(team: Team) -> None:
    connie = await team.tester.member(team.owner, "connie", "NONE")
    nothing = await team.sees(connie)

    assert (await team.entrust("connie", "DEVELOPER"))["errors"] == []

    lamp = {"slug": "product-1094", "myRole": "DEVELOPER", "devices": {"totalCount": 1}, "fleet": {"total": 1}}
    assert nothing == {
        "organization": {"name": "Acme", "products": {"totalCount": 0, "nodes": []}},
        "lamp": None,
        "fan": None,
        "inLamp": None,
        "inFan": None,
    }
    assert await team.sees(connie) == {
        "organization": {"name": "Acme", "products": {"totalCount": 1, "nodes": [{"productId": LAMP, "myRole": "DEVELOPER"}]}},
        "lamp": lamp,
        "fan": None,
        "inLamp": {"deviceId": IN_LAMP},
        "inFan": None,
    }
    assert (await team.renames(connie, LAMP), await team.renames(connie, FAN)) == ([], ["NOT_FOUND"])


@pytest.mark.parametrize("field", ["members { id }", "invitations { id }", "apiUsers { id }", "signingKeys { id }", "billing { state }"])
async def test_the_team_itself_is_closed_to_whoever_has_a_role_in_products_alone(team: Team, field: str) -> None:
    connie = await team.tester.member(team.owner, "connie", "NONE")
    await team.entrust("connie", "OWNER")

    with pytest.raises(GraphQLFailed) as failed:
        await team.tester.ask(f'{{ organization(slug: "acme") {{ {field} }} }}', connie)

    assert failed.value.codes == ["FORBIDDEN"]


async def test_to_whoever_has_a_role_in_products_alone_the_others_of_the_team_are_not_there(team: Team) -> None:
    connie = await team.tester.member(team.owner, "connie", "NONE")
    await team.entrust("connie", "OWNER")
    ann = await Member.get(user__email="ann@example.com")
    ids = [global_id("Member", ann.id), global_id("User", ann.user_id), await seat_of("connie")]  # type: ignore[attr-defined]

    found = await team.tester.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", connie, ids=ids)

    assert found["nodes"] == [None, None, {"id": ids[2]}]
    given = {"productId": LAMP, "memberId": ids[0], "role": "VIEWER"}
    assert await refused(team, team.tester.do("setProductRole", MEMBER, connie, **given)) == ("NOT_FOUND", ["input", "memberId"])
    assert await refused(team, team.entrust("connie", "VIEWER", by=connie)) == ("FORBIDDEN", None)
    created = team.tester.do("createProduct", "product { slug }", connie, organization="acme", name="Mine", platform="PHOTON")
    assert await refused(team, created) == ("FORBIDDEN", None)


async def test_whoever_has_a_role_in_products_alone_costs_a_seat_and_may_leave(team: Team) -> None:
    connie = await team.tester.member(team.owner, "connie", "NONE")
    acme = await Organization.get(slug="acme")
    assert await count_seats(acme.id) == 2

    left = await team.tester.do("removeMember", "organization { slug }", connie, memberId=await seat_of("connie"))

    assert left["errors"] == []
    assert await count_seats(acme.id) == 1
    assert (await team.sees(connie))["organization"] is None


async def test_a_role_in_a_product_raises_and_lowers_there_and_nowhere_else(team: Team) -> None:
    vic, dev = await team.tester.member(team.owner, "vic", "VIEWER"), await team.tester.member(team.owner, "dev", "DEVELOPER")

    raised, lowered = await team.entrust("vic", "DEVELOPER"), await team.entrust("dev", "VIEWER")

    assert raised["member"] == {"role": "VIEWER", "productRoles": [{"product": {"productId": LAMP}, "role": "DEVELOPER"}]}
    assert lowered["member"] == {"role": "DEVELOPER", "productRoles": [{"product": {"productId": LAMP}, "role": "VIEWER"}]}
    assert [await team.renames(vic, LAMP), await team.renames(vic, FAN)] == [[], ["FORBIDDEN"]]
    assert [await team.renames(dev, LAMP), await team.renames(dev, FAN)] == [["FORBIDDEN"], []]
    roles = [[seen[name]["myRole"] for name in ("lamp", "fan")] for seen in (await team.sees(vic), await team.sees(dev))]
    assert roles == [["DEVELOPER", "VIEWER"], ["VIEWER", "DEVELOPER"]]

    assert (await team.release("vic"))["member"] == {"role": "VIEWER", "productRoles": []}
    assert await team.renames(vic, LAMP) == ["FORBIDDEN"]


async def test_none_hides_a_product_and_whatever_leads_to_it(team: Team) -> None:
    dev = await team.tester.member(team.owner, "dev", "DEVELOPER")
    bound = await ApiUser.create(
        organization=await Organization.get(slug="acme"), product=team.lamp, name="of lamp", scopes=[], created_at=datetime.now(UTC)
    )
    group = await DeviceGroup.create(product=team.lamp, name="ward", path="ward", created_at=datetime.now(UTC))
    ids = [global_id("ApiUser", bound.id), global_id("DeviceGroup", group.id), global_id("Product", team.lamp.id)]
    asked = """query ($ids: [ID!]!) { nodes(ids: $ids) { id }
      organization(slug: "acme") { apiUsers { name } members { role productRoles { role } } } }"""
    seen = await team.tester.ask(asked, dev, ids=ids)
    assert (seen["nodes"], seen["organization"]["apiUsers"]) == ([{"id": each} for each in ids], [{"name": "of lamp"}])

    assert (await team.entrust("dev", "NONE"))["errors"] == []

    seen = await team.tester.ask(asked, dev, ids=ids)
    assert seen["nodes"] == [None, None, None]
    assert seen["organization"] == {
        "apiUsers": [],
        "members": [{"role": "OWNER", "productRoles": []}, {"role": "DEVELOPER", "productRoles": []}],
    }
    seen = await team.sees(dev)
    assert (seen["lamp"], seen["inLamp"], seen["inFan"]) == (None, None, {"deviceId": IN_FAN})
    assert seen["organization"]["products"]["nodes"] == [{"productId": FAN, "myRole": "DEVELOPER"}]
    assert await team.renames(dev, LAMP) == ["NOT_FOUND"]


async def test_a_persons_program_has_the_persons_roles_in_products(team: Team) -> None:
    vic = await team.tester.member(team.owner, "vic", "VIEWER")
    made = await team.tester.do("createAccessToken", "token", vic, name="ci", scopes=["products:write"])
    before = await team.renames(made["token"], LAMP)

    await team.entrust("vic", "DEVELOPER")

    assert (before, await team.renames(made["token"], LAMP), await team.renames(made["token"], FAN)) == (["FORBIDDEN"], [], ["FORBIDDEN"])


async def test_no_group_holds_an_admin_of_the_product(team: Team) -> None:
    dev, now = await team.tester.member(team.owner, "dev", "DEVELOPER"), datetime.now(UTC)
    ward, beside = [await DeviceGroup.create(product=team.lamp, name=name, path=name, created_at=now) for name in ("ward", "beside")]
    await GroupMembership.create(group=ward, device_id=IN_LAMP)
    grant = {"groupId": global_id("DeviceGroup", beside.id), "memberId": await seat_of("dev")}
    assert (await team.tester.do("grantGroupAccess", "clientMutationId", team.owner, **grant))["errors"] == []
    held = await team.sees(dev)

    await team.entrust("dev", "ADMIN")

    freed = await team.sees(dev)
    assert (held["lamp"]["devices"], held["inLamp"]) == ({"totalCount": 0}, None)
    assert (freed["lamp"]["devices"], freed["inLamp"]) == ({"totalCount": 1}, {"deviceId": IN_LAMP})
    again = team.tester.do("grantGroupAccess", "clientMutationId", team.owner, **grant)
    assert await refused(team, again) == ("INVALID_INPUT", ["input", "memberId"])
    await team.entrust("dev", "DEVELOPER")
    assert (await team.sees(dev))["lamp"] == {**held["lamp"], "myRole": "DEVELOPER"}


# ── who gives them ──
async def test_below_admin_of_the_organization_nobody_gives_or_takes_a_role_in_a_product(team: Team) -> None:
    dev, _ = await team.tester.member(team.owner, "dev", "DEVELOPER"), await team.tester.member(team.owner, "vic", "VIEWER")
    await team.entrust("dev", "OWNER")
    await team.entrust("vic", "SUPPORT")

    assert await refused(team, team.entrust("vic", "VIEWER", by=dev)) == ("FORBIDDEN", None)
    assert await refused(team, team.release("vic", by=dev)) == ("FORBIDDEN", None)


async def test_nobody_gives_more_than_they_have_nor_takes_it_nor_gives_to_themselves(team: Team) -> None:
    adam, _ = await team.tester.member(team.owner, "adam", "ADMIN"), await team.tester.member(team.owner, "vic", "VIEWER")

    assert await refused(team, team.entrust("vic", "OWNER", by=adam)) == ("FORBIDDEN", ["input", "role"])
    assert await refused(team, team.entrust("ann", "OWNER", by=adam)) == ("FORBIDDEN", ["input", "role"])
    assert await refused(team, team.entrust("adam", "ADMIN", by=adam)) == ("FORBIDDEN", ["input", "memberId"])
    assert await refused(team, team.entrust("ann", "OWNER")) == ("FORBIDDEN", ["input", "memberId"])
    await team.entrust("vic", "OWNER")
    assert await refused(team, team.entrust("vic", "VIEWER", by=adam)) == ("FORBIDDEN", ["input", "role"])
    assert await refused(team, team.release("vic", by=adam)) == ("FORBIDDEN", ["input", "role"])


async def test_an_owner_or_admin_has_every_product_and_can_be_given_only_more(team: Team) -> None:
    await team.tester.member(team.owner, "adam", "ADMIN")
    bob = await team.tester.member(team.owner, "bob", "OWNER")

    assert await refused(team, team.entrust("adam", "DEVELOPER")) == ("INVALID_INPUT", ["input", "role"])
    assert await refused(team, team.entrust("ann", "NONE", by=bob)) == ("INVALID_INPUT", ["input", "role"])
    assert (await team.entrust("adam", "OWNER"))["member"]["productRoles"] == [{"product": {"productId": LAMP}, "role": "OWNER"}]


async def test_becoming_an_admin_ends_weaker_roles_in_products(team: Team) -> None:
    dev = await team.tester.member(team.owner, "dev", "DEVELOPER")
    await team.entrust("dev", "NONE")
    await team.entrust("dev", "OWNER", product=FAN)

    promoted = await team.tester.do("changeMemberRole", MEMBER, team.owner, memberId=await seat_of("dev"), role="ADMIN")

    assert promoted["member"] == {"role": "ADMIN", "productRoles": [{"product": {"productId": FAN}, "role": "OWNER"}]}
    assert (await team.sees(dev))["lamp"]["myRole"] == "ADMIN"


async def test_what_is_another_organizations_is_not_found(team: Team) -> None:
    eve = await team.tester.owner("eve", "Other")
    await a_product(team.tester, 2000, organization="other")
    await team.tester.member(team.owner, "vic", "VIEWER")

    assert await refused(team, team.entrust("vic", "VIEWER", by=eve)) == ("NOT_FOUND", None)
    assert await refused(team, team.entrust("vic", "VIEWER", product=2000)) == ("NOT_FOUND", None)
    assert await refused(team, team.entrust("eve", "VIEWER")) == ("NOT_FOUND", ["input", "memberId"])
    assert await refused(team, team.release("vic", by=eve)) == ("NOT_FOUND", None)


async def test_a_role_is_audited_with_the_one_before_and_the_same_again_changes_nothing(team: Team) -> None:
    await team.tester.member(team.owner, "vic", "VIEWER")
    begun = await AuditEntry.all().count()
    for role in ("SUPPORT", "SUPPORT", "DEVELOPER"):
        assert (await team.entrust("vic", role))["errors"] == []
    for _ in range(2):
        assert (await team.release("vic"))["errors"] == []

    written = [(entry.action, entry.subject, entry.detail) for entry in (await AuditEntry.all().order_by("id"))[begun:]]

    changes = [("set", None, "SUPPORT"), ("set", "SUPPORT", "DEVELOPER"), ("removed", "DEVELOPER", None)]
    assert written == [
        (f"product_role.{done}", "user:vic@example.com", {"product": LAMP, "before": before, "after": after})
        for done, before, after in changes
    ]


async def test_whoever_becomes_admin_as_they_are_lowered_in_a_product_is_not_lowered(postgres_tester: HouseTester) -> None:
    team = await a_team(postgres_tester)
    for turn in range(5):
        await team.tester.member(team.owner, f"dev{turn}", "DEVELOPER")
        promotion = {"memberId": await seat_of(f"dev{turn}"), "role": "ADMIN"}

        await asyncio.gather(
            team.entrust(f"dev{turn}", "VIEWER"), team.tester.do("changeMemberRole", "clientMutationId", team.owner, **promotion)
        )

        assert await Member.filter(user__email=f"dev{turn}@example.com", role="ADMIN").count() == 1
        assert await ProductRole.all().count() == 0


# ── with the invitation ──
async def invited(team: Team, *roles: tuple[int, str], role: str = "NONE", by: str | None = None) -> Any:
    given = [{"productId": product, "role": each} for product, each in roles]
    answer = "invitation { id role productRoles { product { productId } role } }"
    return await team.tester.do(
        "inviteMember", answer, by or team.owner, organization="acme", email="connie@example.com", role=role, productRoles=given
    )


async def test_an_invitation_brings_its_roles_in_products(team: Team) -> None:
    connie = await team.tester.person("connie")

    payload = await invited(team, (LAMP, "SUPPORT"), (FAN, "VIEWER"))

    roles = [{"product": {"productId": LAMP}, "role": "SUPPORT"}, {"product": {"productId": FAN}, "role": "VIEWER"}]
    assert payload["invitation"] == {"id": payload["invitation"]["id"], "role": "NONE", "productRoles": roles}
    assert "\nas a member for single products.\n" in (await team.tester.letters())[-1].text
    (open_one,) = (await team.tester.ask("{ viewer { invitations { role productRoles { role } } } }", connie))["viewer"]["invitations"]
    assert open_one == {"role": "NONE", "productRoles": []}  # not before they belong to it
    accepted = await team.tester.do("acceptInvitation", MEMBER, connie, id=payload["invitation"]["id"])
    assert accepted["member"] == {"role": "NONE", "productRoles": roles}
    assert [row["myRole"] for row in (await team.sees(connie))["organization"]["products"]["nodes"]] == ["SUPPORT", "VIEWER"]


async def test_an_invitation_promises_no_roles_that_its_sender_could_not_give(team: Team) -> None:
    await team.tester.person("connie")
    adam = await team.tester.member(team.owner, "adam", "ADMIN")
    await team.tester.owner("eve", "Other")
    await a_product(team.tester, 2000, organization="other")

    assert await refused(team, invited(team, (LAMP, "OWNER"), by=adam)) == ("FORBIDDEN", ["input", "productRoles", "0", "role"])
    assert await refused(team, invited(team, (LAMP, "VIEWER"), (LAMP, "SUPPORT"))) == ("INVALID_INPUT", ["input", "productRoles"])
    assert await refused(team, invited(team, (LAMP, "VIEWER"), role="ADMIN")) == ("INVALID_INPUT", ["input", "productRoles", "0", "role"])
    assert await refused(team, invited(team, (LAMP, "VIEWER"), (2000, "VIEWER"))) == (
        "NOT_FOUND",
        ["input", "productRoles", "1", "productId"],
    )
    assert await refused(team, invited(team, *[(LAMP, "VIEWER")] * 251)) == ("INVALID_INPUT", ["input", "productRoles"])
