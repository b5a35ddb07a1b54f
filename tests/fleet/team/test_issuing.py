"""Tokens for programs: what they may do, how long they last, and machine accounts with the one token each has."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.account import ApiUser, Token
from models.organization import Member
from tests.house import GraphQLFailed, HouseTester
from tests.stored import whatever_a_refusal_must_leave_alone

MACHINE = "token apiUser { id name scopes product { productId } }"


async def program(tester: HouseTester, session: str, *scopes: str) -> str:
    payload = await tester.do("createAccessToken", "token", session, name="ci", scopes=list(scopes))
    assert payload["errors"] == []
    return str(payload["token"])


async def machine(tester: HouseTester, session: str, *scopes: str, **more: Any) -> dict[str, Any]:
    payload = await tester.do("createApiUser", MACHINE, session, organization="acme", name="ci", scopes=list(scopes), **more)
    assert payload["errors"] == []
    return payload


def refusals(payload: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(error["code"], error["reason"]) for error in payload["errors"]]


async def turned_away(tester: HouseTester, token: str) -> bool:
    try:
        await tester.ask("{ viewer { kind } }", token)
    except Exception as refusal:  # raised before GraphQL begins
        return refusal.code == "UNAUTHENTICATED"  # type: ignore[attr-defined]
    return False


# ── access tokens ──
async def test_a_token_is_shown_once_and_listed_by_its_first_characters(tester: HouseTester) -> None:
    session = await tester.person()
    answer = "token accessToken { id name prefix scopes expiresAt lastUsedAt }"

    payload = await tester.do("createAccessToken", answer, session, name=" nightly ", scopes=["devices:read", "account:read"])

    made = payload["accessToken"]
    assert (made["name"], made["scopes"], made["lastUsedAt"]) == ("nightly", ["account:read", "devices:read"], None)
    assert payload["token"].startswith(made["prefix"])
    assert len(made["prefix"]) == 8
    lasts = datetime.fromisoformat(made["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < lasts <= timedelta(days=90)
    await tester.ask("{ viewer { scopes } }", payload["token"])
    listed = (await tester.ask("{ viewer { user { accessTokens { name lastUsedAt } } } }", session))["viewer"]["user"]["accessTokens"]
    assert [token["name"] for token in listed] == ["", "nightly"]
    assert listed[1]["lastUsedAt"] is not None


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["devices:fly"]}, "scopes.0"),
        ({"scopes": ["devices:read", "devices:claim"]}, "scopes.1"),
        ({"expiresAt": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}, "expiresAt"),
        ({"expiresAt": (datetime.now(UTC) + timedelta(days=366)).isoformat()}, "expiresAt"),
        ({"name": ""}, "name"),
    ],
    ids=["no scope", "unknown scope", "a customer's scope", "over already", "more than a year", "no name"],
)
async def test_a_token_out_of_bounds_is_not_made(tester: HouseTester, given: dict[str, Any], path: str) -> None:
    session = await tester.person()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createAccessToken", "token", session, **{"name": "ci", "scopes": ["devices:read"], **given})

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", *path.split(".")])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_program_makes_no_tokens_and_ends_none(tester: HouseTester) -> None:
    session = await tester.person()
    token = await program(tester, session, "account:read", "devices:read")
    ids = [t["id"] for t in (await tester.ask("{ viewer { user { accessTokens { id } } } }", token))["viewer"]["user"]["accessTokens"]]
    before = await whatever_a_refusal_must_leave_alone()

    made = await tester.do("createAccessToken", "token", token, name="heir", scopes=["devices:read"])
    ended = await tester.do("revokeAccessToken", "", token, id=ids[0])

    assert refusals(made) + refusals(ended) == [("FORBIDDEN", "SESSION"), ("FORBIDDEN", "SESSION")]
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize(
    ("mutation", "input", "scope"),
    [
        ("inviteMember", {"organization": "acme", "email": "bob@example.com"}, "members:write"),
        ("updateOrganization", {"slug": "acme", "name": "Other"}, "organization:write"),
        ("createOrganization", {"name": "Second"}, "organization:write"),
        ("createApiUser", {"organization": "acme", "name": "ci", "scopes": ["devices:read"]}, "api_users:write"),
    ],
)
async def test_a_program_does_only_what_its_scopes_say(tester: HouseTester, mutation: str, input: dict[str, Any], scope: str) -> None:
    session, _ = await tester.owner(), await tester.person("bob")
    token = await program(tester, session, "devices:read", "account:read")
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do(mutation, "clientMutationId", token, **input)

    assert refusals(payload) == [("FORBIDDEN", scope)]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_program_leaves_no_team_and_joins_none_without_the_scope(tester: HouseTester) -> None:
    ann, eve = await tester.owner(), await tester.person("eve")
    bob = await tester.member(ann, "bob", "ADMIN")
    seats = (await tester.ask('{ organization(slug: "acme") { members { id user { email } } } }', bob))["organization"]["members"]
    invited = await tester.do("inviteMember", "invitation { id }", ann, organization="acme", email="eve@example.com")
    reading = "organization:read"

    left = await tester.do("removeMember", "organization { slug }", await program(tester, bob, reading), memberId=seats[1]["id"])
    joined = await tester.do("acceptInvitation", "member { id }", await program(tester, eve, reading), id=invited["invitation"]["id"])

    assert refusals(left) + refusals(joined) == [("FORBIDDEN", "members:write"), ("FORBIDDEN", "members:write")]
    assert await Member.all().count() == 2


async def test_a_program_without_account_read_is_not_told_whose_it_is(tester: HouseTester) -> None:
    session = await tester.owner()
    token = await program(tester, session, "organization:read")

    assert await tester.ask("{ viewer { kind scopes } }", token) == {"viewer": {"kind": "USER", "scopes": ["organization:read"]}}
    for field in ("user { accessTokens { prefix } }", "invitations { id }"):
        with pytest.raises(GraphQLFailed) as failed:
            await tester.ask(f"{{ viewer {{ {field} }} }}", token)
        assert failed.value.codes == ["FORBIDDEN"]


async def test_a_revoked_token_is_refused_at_the_next_request_and_only_ones_own_can_be_revoked(tester: HouseTester) -> None:
    ann, eve = await tester.person(), await tester.person("eve")
    made = await tester.do("createAccessToken", "token accessToken { id }", ann, name="ci", scopes=["account:read"])
    token_id = made["accessToken"]["id"]

    by_eve = await tester.do("revokeAccessToken", "", eve, id=token_id)
    good_until_now = not await turned_away(tester, made["token"])
    by_ann = await tester.do("revokeAccessToken", "", ann, id=token_id)
    again = await tester.do("revokeAccessToken", "", ann, id=token_id)

    assert (refusals(by_eve), refusals(by_ann), refusals(again)) == ([("NOT_FOUND", None)], [], [("NOT_FOUND", None)])
    assert good_until_now
    assert await turned_away(tester, made["token"])
    assert (await tester.audited())[-1] == "token.revoked"


async def test_a_token_past_its_end_says_so(tester: HouseTester) -> None:
    session = await tester.person()
    token = await program(tester, session, "account:read")
    await Token.filter(name="ci").update(expires_at=datetime.now(UTC))

    with pytest.raises(Exception, match="expired") as refused:
        await tester.context(token)

    assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "TOKEN_EXPIRED")  # type: ignore[attr-defined]


# ── machines ──
async def test_new_scopes_make_a_new_token_and_the_old_one_is_refused_at_the_next_request(tester: HouseTester) -> None:
    owner = await tester.owner()
    made = await machine(tester, owner, "devices:read")

    changed = await tester.do("updateApiUser", MACHINE, owner, id=made["apiUser"]["id"], scopes=["events:read"])

    assert changed["apiUser"] == {**made["apiUser"], "scopes": ["events:read"]}
    assert await turned_away(tester, made["token"])
    assert await tester.ask("{ viewer { kind scopes user { id } apiUser { name } } }", changed["token"]) == {
        "viewer": {"kind": "API_USER", "scopes": ["events:read"], "user": None, "apiUser": {"name": "ci"}}
    }
    assert (await tester.audited())[-2:] == ["api_user.created", "api_user.updated"]


async def test_of_updates_at_once_one_token_lives(postgres_tester: HouseTester) -> None:
    owner = await postgres_tester.owner()
    made = await machine(postgres_tester, owner, "devices:read")

    await asyncio.gather(
        *(postgres_tester.do("updateApiUser", MACHINE, owner, id=made["apiUser"]["id"], scopes=["events:read"]) for _ in range(5))
    )

    assert await Token.filter(api_user_id__isnull=False, revoked_at=None).count() == 1


async def test_a_deleted_machine_is_gone_with_its_token(tester: HouseTester) -> None:
    owner = await tester.owner()
    made = await machine(tester, owner, "devices:read")

    first = await tester.do("deleteApiUser", "", owner, id=made["apiUser"]["id"])
    second = await tester.do("deleteApiUser", "", owner, id=made["apiUser"]["id"])

    assert (refusals(first), refusals(second)) == ([], [("NOT_FOUND", None)])
    assert await turned_away(tester, made["token"])
    assert await ApiUser.all().count() == 0
    assert await Token.filter(api_user_id__isnull=False).count() == 0


@pytest.mark.parametrize("scope", ["members:write", "api_users:write", "organization:write", "billing:read", "account:read"])
async def test_no_machine_is_given_power_over_the_team(tester: HouseTester, scope: str) -> None:
    owner = await tester.owner()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createApiUser", "token", owner, organization="acme", name="ci", scopes=[scope])

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "scopes", "0"])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_machine_manages_nobody_even_with_every_scope_in_its_row(tester: HouseTester) -> None:
    owner = await tester.owner()
    made = await machine(tester, owner, "organization:read", "devices:read")
    await ApiUser.all().update(scopes=["organization:read", "members:write", "api_users:write", "organization:write"])
    before = await whatever_a_refusal_must_leave_alone()

    tried = [
        await tester.do("inviteMember", "", made["token"], organization="acme", email="ann@example.com"),
        await tester.do("createApiUser", "token", made["token"], organization="acme", name="heir", scopes=["devices:read"]),
        await tester.do("updateApiUser", "token", made["token"], id=made["apiUser"]["id"], scopes=["devices:write"]),
        await tester.do("updateOrganization", "", made["token"], slug="acme", name="Mine"),
        await tester.do("logOut", "", made["token"]),
    ]

    assert [refusals(payload)[0][0] for payload in tried] == ["FORBIDDEN"] * 5
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_program_gives_a_machine_no_scope_it_lacks_itself(tester: HouseTester) -> None:
    owner = await tester.owner()
    token = await program(tester, owner, "api_users:write", "devices:read")
    made = await machine(tester, token, "devices:read")
    before = await whatever_a_refusal_must_leave_alone()

    wider = await tester.do("createApiUser", "token", token, organization="acme", name="cd", scopes=["devices:read", "firmware:release"])
    widened = await tester.do("updateApiUser", "token", token, id=made["apiUser"]["id"], scopes=["firmware:release"])

    assert refusals(wider) + refusals(widened) == [("FORBIDDEN", "firmware:release")] * 2
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_stranger_finds_no_machine(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    made = await machine(tester, owner, "devices:read")
    before = await whatever_a_refusal_must_leave_alone()

    changed = await tester.do("updateApiUser", "token", eve, id=made["apiUser"]["id"], scopes=["devices:read"])
    deleted = await tester.do("deleteApiUser", "", eve, id=made["apiUser"]["id"])

    assert refusals(changed) + refusals(deleted) == [("NOT_FOUND", None)] * 2
    assert await whatever_a_refusal_must_leave_alone() == before
