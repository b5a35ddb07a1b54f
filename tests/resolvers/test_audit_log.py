"""The audit log: who may read it, how it is filtered, and its pages."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from models.operations import AuditEntry
from tests.house import GraphQLFailed, HouseTester

LOG = """query ($slug: String!, $first: Int, $after: Cursor, $filter: AuditFilter) {
  organization(slug: $slug) { auditLog(first: $first, after: $after, filter: $filter) {
    nodes { action actor subject address } totalCount pageInfo { hasNextPage endCursor } } } }"""


async def log(tester: HouseTester, token: str, slug: str = "acme", **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await tester.ask(LOG, token, slug=slug, **asked))["organization"]["auditLog"]
    return found


async def actions(tester: HouseTester, token: str, **filter: Any) -> list[str]:
    return [entry["action"] for entry in (await log(tester, token, filter=filter))["nodes"]]


async def test_an_entry_says_who_did_what_to_what_from_where_newest_first(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.member(owner, "bob", "ADMIN")

    found = await log(tester, owner)

    assert [(entry["action"], entry["actor"], entry["subject"]) for entry in found["nodes"]] == [
        ("invitation.accepted", "user:bob@example.com", "invitation:bob@example.com"),
        ("invitation.created", "user:ann@example.com", "invitation:bob@example.com"),
        ("organization.created", "user:ann@example.com", "organization:acme"),
    ]
    assert {entry["address"] for entry in found["nodes"]} == {"127.0.0.1"}
    assert found["totalCount"] == 3


async def test_a_filter_takes_what_fits_all_of_it_since_inclusive_until_exclusive(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.member(owner, "bob", "ADMIN")
    second = (await AuditEntry.get(action="invitation.created")).at

    assert await actions(tester, owner, action="invitation.created") == ["invitation.created"]
    assert await actions(tester, owner, actor="user:bob@example.com") == ["invitation.accepted"]
    assert await actions(tester, owner, subject="invitation:bob@example.com", actor="user:ann@example.com") == ["invitation.created"]
    assert await actions(tester, owner, since=second.isoformat()) == ["invitation.accepted", "invitation.created"]
    assert await actions(tester, owner, until=second.isoformat()) == ["organization.created"]
    assert await actions(tester, owner, since=(second + timedelta(days=1)).isoformat()) == []
    assert await actions(tester, owner, action="%") == []


async def test_pages_follow_each_other_without_a_gap_while_the_log_grows(tester: HouseTester) -> None:
    owner = await tester.owner()
    for number in range(7):
        await tester.do("updateOrganization", "organization { name }", owner, slug="acme", name=f"Acme {number}")

    seen, after = [], None
    for _ in range(3):
        found = await log(tester, owner, first=3, after=after)
        seen += [entry["action"] for entry in found["nodes"]]
        after = found["pageInfo"]["endCursor"]
        await tester.do("updateOrganization", "organization { name }", owner, slug="acme", name="Newer")

    assert seen == ["organization.updated"] * 7 + ["organization.created"]
    assert found["pageInfo"]["hasNextPage"] is False
    assert found["totalCount"] == 10


@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT", "DEVELOPER"])
async def test_below_admin_nobody_reads_it(tester: HouseTester, role: str) -> None:
    owner = await tester.owner()
    bob = await tester.member(owner, "bob", role)

    with pytest.raises(GraphQLFailed) as failed:
        await log(tester, bob)

    assert failed.value.codes == ["FORBIDDEN"]


def forged(name: str, *keys: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([name, *keys]).encode()).decode()


async def test_a_cursor_of_another_organization_or_made_up_is_refused(tester: HouseTester) -> None:
    """A forged key reached the database driver and came back as INTERNAL."""
    ann, eve = await tester.owner(), await tester.owner("eve", "Other")
    foreign = (await log(tester, eve, "other"))["pageInfo"]["endCursor"]
    name = json.loads(base64.urlsafe_b64decode((await log(tester, ann))["pageInfo"]["endCursor"] + "=="))[0]
    made_up = [forged(name, key) for key in ("x", 1.5, True, None, 2**63, [1], {"a": 1})]

    for cursor in (foreign, "", "x", "{}", forged(name), forged(name, 1, 2), *made_up):
        with pytest.raises(GraphQLFailed) as failed:
            await log(tester, ann, after=cursor)
        assert failed.value.codes == ["BAD_REQUEST"], cursor


@pytest.mark.parametrize("size", [0, -1, 101])
async def test_a_page_has_one_to_a_hundred_entries(tester: HouseTester, size: int) -> None:
    owner = await tester.owner()

    with pytest.raises(GraphQLFailed) as failed:
        await log(tester, owner, first=size)

    assert failed.value.codes == ["BAD_REQUEST"]
