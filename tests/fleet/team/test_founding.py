"""Organizations: founding, slugs, how many a person may belong to."""

import asyncio
import dataclasses

import pytest

from models.organization import BillingState, Member, Organization
from settings import Settings
from tests.house import HouseTester, open_house
from tests.stored import whatever_a_refusal_must_leave_alone

FOUNDED = "organization { slug name members { role user { email } } }"


async def test_whoever_founds_an_organization_owns_it_and_sees_it_in_the_answer(tester: HouseTester) -> None:
    token = await tester.person()

    payload = await tester.do("createOrganization", FOUNDED, token, name=" Acme & Söhne ")

    assert payload["errors"] == []
    assert payload["organization"] == {
        "slug": "acme-sohne",
        "name": "Acme & Söhne",
        "members": [{"role": "OWNER", "user": {"email": "ann@example.com"}}],
    }
    assert (await tester.audited())[-1] == "organization.created"


@pytest.mark.parametrize("again", ["Acme", "ACME", "ａｃｍｅ", "acme!", " Àcme "])
async def test_look_alike_names_get_slugs_that_differ(tester: HouseTester, again: str) -> None:
    _, bob = await tester.owner(), await tester.person("bob")

    payload = await tester.do("createOrganization", "organization { slug name }", bob, name=again)

    assert payload["errors"] == []
    slug = payload["organization"]["slug"]
    assert slug.startswith("acme-")
    assert len(slug) == 9
    assert payload["organization"]["name"] == again.strip()


async def test_a_name_without_a_latin_letter_has_a_slug_all_the_same(tester: HouseTester) -> None:
    payload = await tester.do("createOrganization", "organization { slug }", await tester.person(), name="東京")

    assert payload["organization"] == {"slug": "organization"}


async def test_ten_who_found_an_organization_of_one_name_at_once_all_get_one(postgres_tester: HouseTester) -> None:
    tokens = [await postgres_tester.person(f"ann{number}") for number in range(10)]

    answers = await asyncio.gather(*(postgres_tester.do("createOrganization", "organization { slug }", t, name="Acme") for t in tokens))

    assert [answer["errors"] for answer in answers] == [[]] * 10
    assert len({answer["organization"]["slug"] for answer in answers}) == 10


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "Ac\x07me"])
async def test_a_name_that_is_none_founds_nothing(tester: HouseTester, name: str) -> None:
    token = await tester.person()
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createOrganization", FOUNDED, token, name=name)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "name"])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_person_founds_one_organization_however_often_they_ask_at_once(postgres_tester: HouseTester) -> None:
    token = await postgres_tester.person()

    answers = await asyncio.gather(
        *(postgres_tester.do("createOrganization", "organization { slug }", token, name=f"Acme {n}") for n in range(5))
    )

    assert sorted(error["code"] for answer in answers for error in answer["errors"]) == ["ALREADY_IN_ORGANIZATION"] * 4
    assert await Organization.all().count() == 1
    assert await Member.all().count() == 1


@pytest.mark.parametrize(("limit", "founded"), [(0, 4), (1, 1), (2, 2)])
async def test_the_setting_says_to_how_many_one_person_may_belong(migrated_sqlite: Settings, limit: int, founded: int) -> None:
    async with open_house(dataclasses.replace(migrated_sqlite, max_organizations_per_user=limit)) as house:
        tester = HouseTester(house)
        token = await tester.person()

        answers = [await tester.do("createOrganization", "organization { slug }", token, name=f"Acme {n}") for n in range(4)]

        assert [not answer["errors"] for answer in answers] == [True] * founded + [False] * (4 - founded)
        assert await Member.all().count() == founded


async def test_the_organization_of_a_person_is_one_they_are_in_themselves(migrated_sqlite: Settings) -> None:
    """It was the viewer's oldest, whoever was asked about."""
    async with open_house(dataclasses.replace(migrated_sqlite, max_organizations_per_user=0)) as house:
        tester = HouseTester(house)
        ann = await tester.owner("ann", "First")
        await tester.do("createOrganization", "organization { slug }", ann, name="Second")
        await tester.member(ann, "bob", "VIEWER", organization="second")

        team = await tester.ask('{ organization(slug: "second") { members { user { name organization { slug } } } } }', ann)

        assert [member["user"] for member in team["organization"]["members"]] == [
            {"name": "Ann", "organization": {"slug": "first"}},
            {"name": "Bob", "organization": {"slug": "second"}},
        ]


async def test_another_name_leaves_the_slug(tester: HouseTester) -> None:
    owner = await tester.owner()

    payload = await tester.do("updateOrganization", "organization { slug name }", owner, slug="acme", name="Apex")

    assert payload["organization"] == {"slug": "acme", "name": "Apex"}
    assert (await tester.audited())[-1] == "organization.updated"


async def test_an_inactive_organization_is_closed_to_its_team_but_can_be_left(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.member(owner, "bob", "ADMIN")
    bob = (await tester.do("logIn", "token", email="bob@example.com", password="a correct horse for the tests"))["token"]
    seats = (await tester.ask('{ organization(slug: "acme") { members { id } } }', bob))["organization"]["members"]
    await Organization.all().update(billing_state=BillingState.INACTIVE)
    before = await whatever_a_refusal_must_leave_alone()

    renamed = await tester.do("updateOrganization", "organization { name }", bob, slug="acme", name="Mine")
    unmoved = await whatever_a_refusal_must_leave_alone() == before
    left = await tester.do("removeMember", "organization { slug }", bob, memberId=seats[1]["id"])

    assert [error["code"] for error in renamed["errors"]] == ["ORGANIZATION_INACTIVE"]
    assert unmoved
    assert left == {"organization": None, "errors": []}
    assert await Member.all().count() == 1
