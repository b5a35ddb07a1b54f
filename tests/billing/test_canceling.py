"""The end of a subscription by choice, and both ways back. Source: guide, "Cancelling a subscription", "Re-activate a subscription"."""

from tests.payer import Payer, days, moment


async def active(payer: Payer) -> str:
    owner = await payer.found("pm_card_visa")
    billing = await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(2))
    assert billing["state"] == "ACTIVE"
    return owner


async def test_after_a_cancellation_the_team_works_to_the_end_of_the_period_and_not_longer(payer: Payer) -> None:
    owner = await active(payer)
    before = await payer.billing(owner)

    canceled = await payer.act("cancelSubscription", owner, reason="We are done")
    number = await payer.product(owner)
    over = await payer.advance(owner, moment(before["currentPeriodEnd"]) + days(1))

    assert (canceled["state"], canceled["cancelAt"]) == ("ACTIVE", before["currentPeriodEnd"])
    assert number >= 1000
    assert (over["state"], over["cancelAt"], over["accessUntil"]) == ("INACTIVE", None, before["currentPeriodEnd"])
    assert [each["total"] for each in await payer.invoices(owner)] == [4900, 0]
    assert (await payer.subjects())[-1] == "The subscription of Acme has ended"


async def test_before_the_end_it_is_taken_back_without_a_charge_and_on_the_same_cycle(payer: Payer) -> None:
    owner = await active(payer)
    before = await payer.billing(owner)
    await payer.act("cancelSubscription", owner)

    back = await payer.act("reactivateSubscription", owner)
    charged = [each["total"] for each in await payer.invoices(owner)]
    renewed = await payer.advance(owner, moment(before["currentPeriodEnd"]) + days(1))

    assert back == before
    assert charged == [4900, 0]
    assert renewed["state"] == "ACTIVE"
    assert [each["total"] for each in await payer.invoices(owner)] == [4900, 4900, 0]


async def test_after_the_end_it_comes_back_in_its_plan_charged_at_once_from_that_day(payer: Payer) -> None:
    owner = await active(payer)
    await payer.member(owner, "bob", "DEVELOPER")
    await payer.work()
    await payer.act("cancelSubscription", owner)
    await payer.advance(owner, moment((await payer.billing(owner))["currentPeriodEnd"]) + days(10))
    now = await payer.now()

    back = await payer.act("reactivateSubscription", owner)

    assert (back["state"], back["plan"], back["seats"]) == ("ACTIVE", "TEAM_MONTHLY", 2)
    assert days(28) <= moment(back["currentPeriodEnd"]) - now <= days(31)
    assert (await payer.invoices(owner))[0]["total"] == 2 * 4900
    assert await payer.provider_subscriptions() == [("active", 2), ("canceled", 2)]


async def test_a_trial_can_be_canceled_and_ends_without_a_charge(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    ends = (await payer.billing(owner))["trialEndsAt"]

    canceled = await payer.act("cancelSubscription", owner)
    over = await payer.advance(owner, moment(ends) + days(1))

    assert (canceled["state"], canceled["cancelAt"]) == ("TRIALING", ends)
    assert over["state"] == "INACTIVE"
    assert [each["total"] for each in await payer.invoices(owner)] == [0]
    assert (await payer.subjects())[-1] == "The subscription of Acme has ended"


async def test_nothing_is_canceled_twice_nor_brought_back_while_it_runs(payer: Payer) -> None:
    owner = await active(payer)
    before = await payer.audited()

    running = await payer.do("reactivateSubscription", "billing { state }", owner, organization="acme")
    await payer.act("cancelSubscription", owner)
    twice = await payer.do("cancelSubscription", "billing { state }", owner, organization="acme")
    await payer.advance(owner, moment((await payer.billing(owner))["currentPeriodEnd"]) + days(1))
    over = await payer.do("cancelSubscription", "billing { state }", owner, organization="acme")

    assert [[error["code"] for error in each["errors"]] for each in (running, twice, over)] == [
        ["ALREADY_ACTIVE"],
        ["NOT_CANCELABLE"],
        ["NOT_CANCELABLE"],
    ]
    assert (await payer.audited())[len(before) :] == ["billing.canceled", "billing.state_changed", "billing.clock_advanced"]


async def test_without_a_card_nobody_comes_back(payer: Payer) -> None:
    owner = await payer.found(card=None)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))

    payload = await payer.do("reactivateSubscription", "billing { state }", owner, organization="acme")

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("CARD_REQUIRED", ["input", "setupId"])]
    assert (await payer.billing(owner))["state"] == "INACTIVE"
    assert await payer.provider_subscriptions() == [("canceled", 1)]


async def test_below_admin_nobody_sees_or_touches_billing(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    bob = await payer.member(owner, "bob", "DEVELOPER")
    before = await payer.audited()

    answers = [
        await payer.do(mutation, "billing { state }", bob, organization="acme", **more)
        for mutation, more in {
            "cancelSubscription": {},
            "reactivateSubscription": {},
            "payOpenInvoice": {},
            "changePlan": {"plan": "TEAM_ANNUAL"},
            "advanceSandboxClock": {"to": "2050-01-01T00:00:00Z"},
        }.items()
    ]

    assert [[error["code"] for error in each["errors"]] for each in answers] == [["FORBIDDEN"]] * 5
    assert await payer.audited() == before
    assert (await payer.billing(owner))["cancelAt"] is None
