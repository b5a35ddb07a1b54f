"""What happens by itself: renewals, retries and ends, each at its moment and in order, also after a restart."""

import dataclasses
import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from billing.sandbox.app import Sandbox, sandbox_app
from billing.sandbox.client import stripe_client_for
from billing.sandbox.moment import Rules
from billing.sandbox.wire import Fault
from models.database import database
from settings import Settings
from tests.billing.sandbox.account import DAY, HOUR, START, Account, Payer, amounts, arrive, end_of
from tests.billing.sandbox.conftest import Mailbox, Wall

APRIL = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())


async def listen(sandbox: Sandbox, mailbox: Mailbox, *events: str) -> None:
    await sandbox.endpoint("http://here/webhook", secret="whsec_of_the_tests", events=events or ("*",))
    mailbox.received.clear()


def bodies(mailbox: Mailbox) -> list[dict[str, object]]:
    return [json.loads(body) for _, body, _ in mailbox.received]


async def test_the_worked_figure_of_a_third_member_after_ten_days(account: Account) -> None:
    """Source: billing, "Seats and proration": 14700 + 3267."""
    account.start = APRIL
    payer = await account.payer()
    subscription = await account.subscribe(payer, seats=2)
    await account.move(payer.clock, APRIL + 10 * DAY)

    await account.seats(subscription, 3)
    shown = await account.preview(payer, subscription)
    await account.move(payer.clock, APRIL + 30 * DAY + HOUR)
    billed = (await account.invoices(payer))[0]

    assert amounts(billed) == [-6533, 9800, 14_700]
    assert shown["total"] == billed["amount_paid"] == 17_967
    assert [line["description"] for line in billed["lines"]["data"]] == [
        "Unused time on 2 × Team Plan after 11 Apr 2026",
        "Remaining time on 3 × Team Plan after 11 Apr 2026",
        "3 × Team Plan (at $49.00 / month)",
    ]


async def test_the_worked_figure_of_a_second_member_on_the_annual_plan(account: Account) -> None:
    """Source: billing, "Seats and proration": 117600 + 47040."""
    payer = await account.payer()
    subscription = await account.subscribe(payer, interval="year")
    await account.move(payer.clock, START + 73 * DAY)

    await account.seats(subscription, 2)
    await account.move(payer.clock, START + 365 * DAY + HOUR)
    billed = (await account.invoices(payer))[0]

    assert amounts(billed) == [-47_040, 94_080, 117_600]
    assert billed["amount_paid"] == 164_640


async def failing(account: Account) -> tuple[Payer, str, int]:
    """A payer whose card fails from the first renewal on; the subscription and the moment of the first charge."""
    account.start = APRIL
    payer = await account.payer()
    subscription = await account.subscribe(payer)
    await account.give_card(payer, "pm_card_chargeCustomerFail")
    return payer, subscription["id"], end_of(subscription) + HOUR


async def test_a_failing_card_is_tried_on_days_0_3_8_and_15_and_then_it_ends(account: Account, sandbox: Sandbox, mailbox: Mailbox) -> None:
    payer, name, first = await failing(account)
    await listen(sandbox, mailbox, "invoice.payment_failed", "customer.subscription.deleted")

    await account.move(payer.clock, first + 16 * DAY)

    failures = [event for event in bodies(mailbox) if event["type"] == "invoice.payment_failed"]
    assert [event["created"] for event in failures] == [first, first + 3 * DAY, first + 8 * DAY, first + 15 * DAY]
    assert [event["data"]["object"]["attempt_count"] for event in failures] == [1, 2, 3, 4]
    nexts = [event["data"]["object"]["next_payment_attempt"] for event in failures]
    assert nexts == [first + 3 * DAY, first + 8 * DAY, first + 15 * DAY, None]
    over = await account.subscription(name)
    assert (over["status"], over["cancellation_details"]["reason"], over["ended_at"]) == ("canceled", "payment_failed", first + 15 * DAY)
    assert mailbox.received[-1][1].find(b"customer.subscription.deleted") > 0


@pytest.mark.parametrize("action", ["unpaid", "paused"])
async def test_the_account_may_say_otherwise_what_the_last_failure_does(sandbox_settings: Settings, mailbox: Mailbox, action: str) -> None:
    async with database(sandbox_settings):
        sandbox = sandbox_app(sandbox_settings, deliver=mailbox, rules=Rules(final_action=action), check_answers=True)
        account = Account(stripe_client_for(sandbox).v1, move=sandbox.advance)
        payer, name, first = await failing(account)

        await account.move(payer.clock, first + 16 * DAY)

        assert (await account.subscription(name))["status"] == action


async def test_a_card_given_between_two_attempts_is_charged_at_the_next(account: Account) -> None:
    payer, name, first = await failing(account)
    await account.move(payer.clock, first + DAY)

    await account.give_card(payer, "pm_card_visa")
    await account.move(payer.clock, first + 3 * DAY)
    invoice = (await account.invoices(payer))[0]

    assert (invoice["status"], invoice["attempt_count"], invoice["status_transitions"]["paid_at"]) == ("paid", 2, first + 3 * DAY)
    assert (await account.subscription(name))["status"] == "active"


async def test_an_old_invoice_paid_late_does_not_bring_a_subscription_back(sandbox_settings: Settings, mailbox: Mailbox) -> None:
    """Only the latest invoice does; the retries here go on beyond the next renewal."""
    async with database(sandbox_settings):
        sandbox = sandbox_app(sandbox_settings, deliver=mailbox, rules=Rules(retry_days=(40, 40)), check_answers=True)
        account = Account(stripe_client_for(sandbox).v1, move=sandbox.advance)
        payer, name, first = await failing(account)
        await account.move(payer.clock, first + 32 * DAY)
        latest, old, _ = await account.invoices(payer)
        await account.give_card(payer, "pm_card_visa")

        await account.v1.invoices.pay_async(old["id"])
        still = await account.subscription(name)
        await account.v1.invoices.pay_async(latest["id"])

        assert still["status"] == "past_due"
        assert (await account.subscription(name))["status"] == "active"


async def test_each_thing_is_told_before_the_next_one_happens(account: Account, sandbox: Sandbox, mailbox: Mailbox) -> None:
    """So that a team may be locked, or a card given, on the day it would have been."""
    payer, name, first = await failing(account)
    await listen(sandbox, mailbox)
    seen: list[tuple[int, str]] = []

    async def look(url: str, body: bytes, headers: dict[str, str]) -> int:
        if json.loads(body)["type"] == "invoice.payment_failed":
            seen.append((await sandbox.time_of(payer.clock), (await account.subscription(name))["status"]))
        return 200

    sandbox._deliver = look
    await account.move(payer.clock, first + 16 * DAY)

    assert seen == [(first, "past_due"), (first + 3 * DAY, "past_due"), (first + 8 * DAY, "past_due"), (first + 15 * DAY, "canceled")]


async def test_a_year_of_renewals_keeps_the_day_and_numbers_its_invoices(account: Account) -> None:
    account.start = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())
    payer = await account.payer()
    await account.subscribe(payer)

    await account.move(payer.clock, int(datetime(2027, 1, 30, tzinfo=UTC).timestamp()))
    invoices = (await account.invoices(payer))[::-1]

    days = [datetime.fromtimestamp(invoice["created"], UTC).strftime("%m-%d") for invoice in invoices]
    assert days == ["01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "11-30", "12-31"]
    assert [invoice["number"][-4:] for invoice in invoices] == [f"{number:04}" for number in range(1, 13)]
    assert {invoice["status"] for invoice in invoices} == {"paid"}


async def test_a_clock_does_not_go_back(account: Account, sandbox: Sandbox) -> None:
    payer = await account.payer()

    with pytest.raises(Fault, match="later"):
        await sandbox.advance(payer.clock, START - 1)

    assert await sandbox.time_of(payer.clock) == START


async def test_one_clock_does_not_move_another(account: Account) -> None:
    mine, other = await account.payer(), await account.payer()
    subscription = await account.trial(other)
    await account.trial(mine)

    await account.move(mine.clock, START + 40 * DAY)

    assert (await account.subscription(subscription["id"]))["status"] == "trialing"


async def test_without_a_test_clock_time_passes_by_itself(sandbox: Sandbox, account: Account, wall: Wall) -> None:
    customer = await account.v1.customers.create_async({"email": "ann@example.com"})
    payer = Payer(customer["id"], "")
    await account.give_card(payer, "pm_card_visa")
    trial = await account.trial(payer)
    begin = wall.at

    wall.at = begin + 30 * DAY - 1
    early = await sandbox.due()
    wall.at = begin + 45 * DAY  # the server was off for two weeks
    played = await sandbox.run_due()
    renewed = await account.subscription(trial["id"])
    invoices = await account.invoices(payer)

    assert [(due.type, due.at) for due in early] == [("subscription", begin + 27 * DAY)]
    assert played == 3  # the word before the end, the renewal, the charge
    assert await sandbox.due() == []
    assert renewed["items"]["data"][0]["current_period_start"] == begin + 30 * DAY
    assert [invoice["created"] for invoice in invoices] == [begin + 30 * DAY, begin]
    assert invoices[0]["status_transitions"]["paid_at"] == begin + 30 * DAY + HOUR


async def test_a_customer_moved_ahead_lives_on_from_there(sandbox: Sandbox, account: Account, wall: Wall) -> None:
    customer = await account.v1.customers.create_async({"email": "ann@example.com"})
    payer = Payer(customer["id"], "")
    await account.give_card(payer, "pm_card_visa")
    trial = await account.trial(payer)
    begin = wall.at

    await sandbox.advance(payer.id, begin + 29 * DAY)
    there = await sandbox.time_of(payer.id)
    wall.at = begin + 2 * DAY
    await sandbox.run_due()

    assert (there, await sandbox.time_of(payer.id)) == (begin + 29 * DAY, begin + 31 * DAY)
    assert (await account.subscription(trial["id"]))["status"] == "active"
    assert [invoice["amount_paid"] for invoice in await account.invoices(payer)] == [4900, 0]


class Killed(BaseException):
    """The process is gone from one statement to the next."""


async def test_a_restart_finishes_a_clock_that_was_on_its_way(sandbox_settings: Settings, mailbox: Mailbox, wall: Wall) -> None:
    """The process dies after one of the things that were due; the next one plays the rest, once."""
    async with database(sandbox_settings):
        dying = sandbox_app(sandbox_settings, deliver=mailbox, now=wall)
        account = Account(stripe_client_for(dying).v1, move=dying.advance)
        payer = await account.payer()
        await account.trial(payer)
        await dying.settled()
        await listen(dying, mailbox)
        calls = 0

        async def die(url: str, body: bytes, headers: dict[str, str]) -> int:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise Killed
            return 200

        dying._deliver = die
        with pytest.raises(Killed):
            await dying.advance(payer.clock, START + 31 * DAY)

    async with database(sandbox_settings):
        again = sandbox_app(sandbox_settings, deliver=mailbox, now=wall)
        account = Account(stripe_client_for(again).v1, move=again.advance)
        await again.run_due()
        still = await again.time_of(payer.clock)
        wall.at += 30
        await again.run_due()

        assert still == START + 27 * DAY  # the first may be slow, not dead
        assert await again.time_of(payer.clock) == START + 31 * DAY
        assert [invoice["amount_paid"] for invoice in await account.invoices(payer)] == [4900, 0]
        assert Counter(await account.told(payer))["customer.subscription.trial_will_end"] == 1


async def test_a_deleted_clock_takes_its_customers_along(account: Account, sandbox: Sandbox) -> None:
    payer, other = await account.payer(), await account.payer()
    await account.trial(payer)

    await account.v1.test_helpers.test_clocks.delete_async(payer.clock)

    found = await account.v1.customers.list_async({"limit": 10})
    assert [customer["id"] for customer in found.data] == [other.id]


async def test_the_api_advances_a_clock_in_the_background(account: Account) -> None:
    payer = await account.payer()
    asked = await account.v1.test_helpers.test_clocks.advance_async(payer.clock, {"frozen_time": START + DAY})

    await arrive(account.v1, payer.clock, START + 2 * DAY, pause_s=0.01) if asked["status"] == "ready" else None

    assert asked["status"] == "advancing"
    assert asked["status_details"]["advancing"]["target_frozen_time"] == START + DAY


def test_rules_are_what_the_documentation_tells_operators_to_choose() -> None:
    assert dataclasses.asdict(Rules()) | {"page_url": ""} == {
        "retry_days": (3, 5, 7),
        "final_action": "cancel",
        "draft_s": 3600,
        "incomplete_s": 82_800,
        "page_url": "",
    }
