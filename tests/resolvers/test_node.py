"""Global ids: everything with one is found by it, by whoever may see it, and by nobody else."""

import re

import pytest

from models import global_ids
from models.organization import Member
from resolvers.node import FINDERS
from schema.build import build_schema
from tests.house import GraphQLFailed, HouseTester

NODE = "query ($id: ID!) { node(id: $id) { __typename id } }"


async def ids_of_a_team(tester: HouseTester, owner: str) -> dict[str, str]:
    """One global id of each kind, as the API itself gives them out."""
    made = await tester.do("createApiUser", "apiUser { id }", owner, organization="acme", name="ci", scopes=["devices:read"])
    invited = await tester.do("inviteMember", "invitation { id }", owner, organization="acme", email="bob@example.com")
    found = await tester.ask(
        """{ organization(slug: "acme") { id members { id user { id } } auditLog { nodes { id } } }
             viewer { user { accessTokens { id } } } }""",
        owner,
    )
    team = found["organization"]
    return {
        "AccessToken": found["viewer"]["user"]["accessTokens"][0]["id"],
        "ApiUser": made["apiUser"]["id"],
        "AuditEntry": team["auditLog"]["nodes"][0]["id"],
        "Invitation": invited["invitation"]["id"],
        "Member": team["members"][0]["id"],
        "Organization": team["id"],
        "User": team["members"][0]["user"]["id"],
    }


async def found_by(tester: HouseTester, token: str | None, ids: dict[str, str]) -> set[str]:
    """The kinds that node() answers; each is asked for alone, a refusal is as good as nothing."""
    seen = set()
    for kind, global_id in ids.items():
        try:
            node = (await tester.ask(NODE, token, id=global_id))["node"]
        except GraphQLFailed:
            continue
        if node is not None:
            assert node == {"__typename": kind, "id": global_id}
            seen.add(kind)
    return seen


def test_every_type_with_a_global_id_has_a_finder() -> None:
    nodes = re.findall(r"^type (\w+) implements Node", build_schema().as_str(), re.MULTILINE)

    assert sorted(FINDERS) == sorted(nodes)


async def test_everything_is_found_by_its_id_by_whoever_may_see_it(tester: HouseTester) -> None:
    owner, bob = await tester.owner(), await tester.person("bob")
    ids = await ids_of_a_team(tester, owner)
    developer = await tester.member(owner, "dan", "DEVELOPER")

    assert await found_by(tester, owner, ids) == set(ids)
    assert await found_by(tester, developer, ids) == set(ids) - {"AccessToken", "AuditEntry"}
    assert await found_by(tester, bob, ids) == {"Invitation"}


async def test_what_one_may_not_see_is_null_like_what_does_not_exist(tester: HouseTester) -> None:
    owner, _, eve = await tester.owner(), await tester.person("bob"), await tester.owner("eve", "Other")
    ids = await ids_of_a_team(tester, owner)
    nonsense = [("Member", "x"), ("Member", -1), ("Nothing", 1), ("User", 2**31), ("User", 10**17), ("AuditEntry", 10**17)]
    unknown = ["", "x", "Zm9v", *(global_ids.global_id(kind, key) for kind, key in nonsense)]

    answer = await tester.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", eve, ids=[*ids.values(), *unknown])

    assert answer["nodes"] == [None] * (len(ids) + len(unknown))
    assert await found_by(tester, None, ids) == set()


async def test_a_machine_of_one_product_and_a_program_find_nothing_of_the_team_by_id(tester: HouseTester) -> None:
    """A machine bound to one product was told of its organization's members."""
    owner, _ = await tester.owner(), await tester.person("bob")
    ids = await ids_of_a_team(tester, owner)
    program = await tester.do("createAccessToken", "token", owner, name="ci", scopes=["devices:read"])

    assert await found_by(tester, program["token"], ids) == set()


async def test_nodes_answers_in_the_order_asked_and_takes_a_hundred(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.member(owner, "bob", "VIEWER")
    ids = [global_ids.global_id("Member", seat.id) for seat in await Member.all().order_by("-id")]
    ask = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"

    assert await tester.ask(ask, owner, ids=[ids[0], "x", *ids]) == {
        "nodes": [{"id": ids[0]}, None, {"id": ids[0]}, {"id": ids[1]}],
    }
    with pytest.raises(GraphQLFailed) as failed:
        await tester.ask(ask, owner, ids=["x"] * 101)
    assert failed.value.codes == ["BAD_REQUEST"]
