"""The team: invitations, roles, seats."""

import asyncio
from datetime import UTC, datetime

import pytest

from models.organization import Invitation, Member
from tests.house import HouseTester
from tests.stored import whatever_a_refusal_must_leave_alone

INVITATION = "invitation { id state role }"


async def test_an_invitation_without_a_role_makes_an_admin_and_is_mailed(tester: HouseTester) -> None:
    owner, _ = await tester.owner(), await tester.person("bob")

    payload = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="Bob@Example.com")

    assert payload["errors"] == []
    assert (payload["invitation"]["role"], payload["invitation"]["state"]) == ("ADMIN", "PENDING")
    (letter,) = await tester.letters()
    assert letter.to == "Bob@Example.com"
    assert "Acme" in letter.text
    assert "Ann" in letter.text
    assert payload["invitation"]["id"] in letter.text


async def test_an_address_without_an_account_cannot_be_invited(tester: HouseTester) -> None:
    owner = await tester.owner()
    before = await tester.audited()

    payload = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="nobody@example.com")

    assert [error["code"] for error in payload["errors"]] == ["NO_SUCH_ACCOUNT"]
    assert payload["errors"][0]["path"] == ["input", "email"]
    assert await Invitation.all().count() == 0
    assert await tester.letters() == []
    assert await tester.audited() == before


async def test_accepting_takes_a_seat_and_declining_leaves_none(tester: HouseTester) -> None:
    owner, bob, eve = await tester.owner(), await tester.person("bob"), await tester.person("eve")
    first = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com", role="SUPPORT")
    second = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="eve@example.com")

    accepted = await tester.do("acceptInvitation", "member { role user { email } }", bob, id=first["invitation"]["id"])
    declined = await tester.do("declineInvitation", INVITATION, eve, id=second["invitation"]["id"])

    assert accepted["member"] == {"role": "SUPPORT", "user": {"email": "bob@example.com"}}
    assert declined["invitation"]["state"] == "DECLINED"
    team = await tester.ask('{ organization(slug: "acme") { members { role user { email } } } }', bob)
    assert [member["user"]["email"] for member in team["organization"]["members"]] == ["ann@example.com", "bob@example.com"]


async def test_an_invitation_to_somebody_else_is_not_found(tester: HouseTester) -> None:
    owner, _, eve = await tester.owner(), await tester.person("bob"), await tester.person("eve")
    invited = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")

    payload = await tester.do("acceptInvitation", "member { role }", eve, id=invited["invitation"]["id"])

    assert [error["code"] for error in payload["errors"]] == ["NOT_FOUND"]
    assert await Member.all().count() == 1


async def test_whoever_belongs_to_another_organization_cannot_be_invited(tester: HouseTester) -> None:
    owner, _ = await tester.owner(), await tester.owner("bob", "Other")

    payload = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")

    assert [error["code"] for error in payload["errors"]] == ["ALREADY_IN_ORGANIZATION"]
    assert await Invitation.all().count() == 0


async def test_of_two_invitations_accepted_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owners = [await tester.owner("ann", "Acme"), await tester.owner("bob", "Other")]
    for number in range(10):
        guest = await tester.person(f"guest{number}")
        ids = []
        for owner, slug in zip(owners, ("acme", "other"), strict=True):
            invited = await tester.do("inviteMember", INVITATION, owner, organization=slug, email=f"guest{number}@example.com")
            ids.append(invited["invitation"]["id"])

        answers = await asyncio.gather(*(tester.do("acceptInvitation", "member { role }", guest, id=each) for each in ids))

        assert sorted(len(answer["errors"]) for answer in answers) == [0, 1]
        assert [error["code"] for answer in answers for error in answer["errors"]] == ["ALREADY_IN_ORGANIZATION"]
        assert await Member.filter(user__email=f"guest{number}@example.com").count() == 1


async def test_the_last_owner_stays_even_when_two_leave_at_once(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    ann = await tester.owner()
    bob = await tester.member(ann, "bob", "OWNER")
    ids = [seat["id"] for seat in (await tester.ask('{ organization(slug: "acme") { members { id } } }', ann))["organization"]["members"]]

    answers = await asyncio.gather(
        tester.do("removeMember", "organization { slug }", ann, memberId=ids[0]),
        tester.do("removeMember", "organization { slug }", bob, memberId=ids[1]),
    )

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["LAST_OWNER"]
    assert await Member.filter(role="OWNER").count() == 1


@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT", "DEVELOPER"])
async def test_below_admin_nobody_manages_the_team(tester: HouseTester, role: str) -> None:
    owner = await tester.owner()
    bob, _ = await tester.member(owner, "bob", role), await tester.person("eve")
    before = await tester.audited()

    payload = await tester.do("inviteMember", INVITATION, bob, organization="acme", email="eve@example.com")

    assert [error["code"] for error in payload["errors"]] == ["FORBIDDEN"]
    assert await Invitation.filter(email="eve@example.com").count() == 0
    assert await tester.audited() == before


async def test_an_admin_neither_makes_nor_unmakes_an_owner(tester: HouseTester) -> None:
    owner = await tester.owner()
    bob, _ = await tester.member(owner, "bob", "ADMIN"), await tester.person("eve")
    team = await tester.ask('{ organization(slug: "acme") { members { id } } }', bob)

    invited = await tester.do("inviteMember", INVITATION, bob, organization="acme", email="eve@example.com", role="OWNER")
    removed = await tester.do("removeMember", "organization { slug }", bob, memberId=team["organization"]["members"][0]["id"])

    assert [error["code"] for error in invited["errors"] + removed["errors"]] == ["FORBIDDEN", "FORBIDDEN"]
    assert await Member.filter(role="OWNER").count() == 1


async def test_an_invitation_ends_after_its_time_and_another_can_be_sent(tester: HouseTester) -> None:
    owner, bob = await tester.owner(), await tester.person("bob")
    first = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")
    twice = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")
    await Invitation.all().update(expires_at=datetime.now(UTC))

    accepted = await tester.do("acceptInvitation", "member { role }", bob, id=first["invitation"]["id"])
    declined = await tester.do("declineInvitation", INVITATION, bob, id=first["invitation"]["id"])
    second = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")

    assert [error["code"] for payload in (twice, accepted, declined) for error in payload["errors"]] == [
        *("ALREADY_INVITED", "NOT_FOUND", "NOT_FOUND"),
    ]
    assert second["errors"] == []
    sent = await tester.ask('{ organization(slug: "acme") { invitations { state } } }', owner)
    assert sent["organization"]["invitations"] == [{"state": "EXPIRED"}, {"state": "PENDING"}]
    assert (await tester.ask("{ viewer { invitations { id } } }", bob))["viewer"]["invitations"] == [{"id": second["invitation"]["id"]}]
    assert await Member.all().count() == 1


async def test_whoever_accepts_sees_the_team_in_the_answer(tester: HouseTester) -> None:
    owner, bob = await tester.owner(), await tester.person("bob")
    invited = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")

    answer = "member { user { organization { members { role } } } }"
    accepted = await tester.do("acceptInvitation", answer, bob, id=invited["invitation"]["id"])

    assert accepted["member"]["user"]["organization"]["members"] == [{"role": "OWNER"}, {"role": "ADMIN"}]


@pytest.mark.parametrize("answer", ["acceptInvitation", "declineInvitation", "revokeInvitation"])
async def test_an_invitation_is_answered_once(tester: HouseTester, answer: str) -> None:
    owner, bob = await tester.owner(), await tester.person("bob")
    invited = await tester.do("inviteMember", INVITATION, owner, organization="acme", email="bob@example.com")
    await tester.do(answer, "clientMutationId", owner if answer == "revokeInvitation" else bob, id=invited["invitation"]["id"])
    before = await whatever_a_refusal_must_leave_alone()

    again = [
        await tester.do("declineInvitation", INVITATION, bob, id=invited["invitation"]["id"]),
        await tester.do("revokeInvitation", INVITATION, owner, id=invited["invitation"]["id"]),
    ]

    assert [error["code"] for payload in again for error in payload["errors"]] == ["NOT_FOUND", "NOT_FOUND"]
    assert await whatever_a_refusal_must_leave_alone() == before
