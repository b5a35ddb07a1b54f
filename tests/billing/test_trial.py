"""The trial: thirty days, once, nothing charged; and what comes at its end. Source: guide, "Setting up an organization"."""

from datetime import UTC, datetime, timedelta

import pytest

from models.billing import BillingAccount
from models.organization import Organization
from settings import Settings
from tests.payer import Payer, days, moment, open_payer


async def test_founding_begins_a_trial_of_thirty_days_and_charges_nothing(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")

    billing = await payer.billing(owner)
    now = await payer.now()

    assert (billing["state"], billing["mode"], billing["plan"], billing["seats"]) == ("TRIALING", "SANDBOX", "TEAM_MONTHLY", 1)
    assert moment(billing["trialEndsAt"]) == now + days(30)
    assert billing["accessUntil"] == billing["trialEndsAt"]
    assert billing["card"] == {"brand": "visa", "last4": "4242"}
    assert [(each["total"], each["status"]) for each in await payer.invoices(owner)] == [(0, "paid")]
    assert await payer.subjects() == []


async def test_until_the_trial_is_over_there_is_no_charge_and_then_there_is_one(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    await payer.member(owner, "bob", "DEVELOPER")
    await payer.work()
    ends = moment((await payer.billing(owner))["trialEndsAt"])

    await payer.advance(owner, ends - timedelta(seconds=1))
    before = [each["total"] for each in await payer.invoices(owner)]
    billing = await payer.advance(owner, ends + timedelta(hours=2))
    after = [(each["total"], each["status"]) for each in await payer.invoices(owner)]

    assert before == [0]
    assert after == [(2 * 4900, "paid"), (0, "paid")]
    assert billing["state"] == "ACTIVE"
    assert moment(billing["accessUntil"]) > ends + days(27)
    assert await payer.subjects() == [
        "Ann invites you to Acme on Flotilla",
        f"The trial of Acme ends on {ends:%Y-%m-%d}",
        "Receipt for Acme: 98.00 USD",
    ]


async def test_three_days_before_the_end_a_mail_says_so_and_that_there_is_no_card(payer: Payer) -> None:
    owner = await payer.found(card=None)
    ends = moment((await payer.billing(owner))["trialEndsAt"])

    await payer.advance(owner, ends - days(3) - timedelta(seconds=1))
    before = await payer.subjects()
    await payer.advance(owner, ends - days(3) + timedelta(seconds=1))

    assert before == []
    (letter,) = await payer.letters()
    assert letter.subject == f"The trial of Acme ends on {ends:%Y-%m-%d}"
    assert "There is no card yet" in letter.text
    assert "createCardSetup" in letter.text


async def test_a_trial_that_ends_without_a_card_leaves_the_organization_inactive_and_charges_nothing(payer: Payer) -> None:
    owner = await payer.found(card=None)
    ends = moment((await payer.billing(owner))["trialEndsAt"])

    billing = await payer.advance(owner, ends + days(1))

    assert billing["state"] == "INACTIVE"
    assert [each["total"] for each in await payer.invoices(owner)] == [0]
    assert (await payer.subjects())[-1] == "The trial of Acme is over"
    assert await Organization.all().count() == 1


async def test_a_second_trial_is_never_granted(payer: Payer) -> None:
    owner = await payer.found(card=None)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
    setup = await payer.setup(owner, "pm_card_visa")

    billing = await payer.act("reactivateSubscription", owner, setupId=setup)

    assert billing["state"] == "ACTIVE"
    assert [(each["total"], each["status"]) for each in await payer.invoices(owner)] == [(4900, "paid"), (0, "paid")]
    assert await BillingAccount.filter(trial_granted_at=None).count() == 0


async def test_without_a_card_there_is_no_organization_where_the_server_asks_for_one(migrated_sqlite: Settings) -> None:
    async with open_payer(migrated_sqlite, billing_require_card=True) as payer:
        token = await payer.person()

        refused = await payer.do("createOrganization", "organization { slug }", token, name="Acme")
        setup = await payer.setup(token, "pm_card_visa", organization=None)
        founded = await payer.do("createOrganization", "organization { slug }", token, name="Acme", cardSetupId=setup)

        assert [(error["code"], error["path"]) for error in refused["errors"]] == [("CARD_REQUIRED", ["input", "cardSetupId"])]
        assert founded["organization"] == {"slug": "acme"}
        assert await Organization.all().count() == 1


async def test_a_setup_of_somebody_else_or_without_a_card_founds_nothing(payer: Payer) -> None:
    ann, bob = await payer.person("ann"), await payer.person("bob")
    theirs = await payer.setup(bob, "pm_card_visa", organization=None)
    made = await payer.do("createCardSetup", "setup { id }", ann, flow="ELEMENTS")

    answers = [
        await payer.do("createOrganization", "organization { slug }", ann, name="Acme", cardSetupId=id)
        for id in (theirs, made["setup"]["id"])
    ]

    assert [[error["code"] for error in answer["errors"]] for answer in answers] == [["INVALID_INPUT"], ["INVALID_INPUT"]]
    assert await Organization.all().count() == 0


@pytest.mark.parametrize("plan", ["TEAM_MONTHLY", "TEAM_ANNUAL"])
async def test_an_organization_pays_the_plan_it_was_founded_with(payer: Payer, plan: str) -> None:
    owner = await payer.found("pm_card_visa", plan=plan)

    billing = await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))

    amount = {"TEAM_MONTHLY": 4900, "TEAM_ANNUAL": 58800}[plan]
    assert (billing["plan"], billing["unitAmount"]) == (plan, amount)
    assert (await payer.invoices(owner))[0]["total"] == amount


async def test_the_promise_of_a_subscription_is_kept_where_the_provider_was_away(payer: Payer) -> None:
    """Founding stands with its commit; what could not be told the provider at once is told it later, and only once."""
    owner = await payer.found("pm_card_visa")
    account = await payer.account()
    before = account.subscription_id

    await payer.work()

    assert (await payer.account()).subscription_id == before
    assert await payer.provider_subscriptions() == [("trialing", 1)]
    assert datetime.now(UTC) < moment((await payer.billing(owner))["trialEndsAt"])
