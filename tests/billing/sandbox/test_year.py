"""A year of joins, leaves and plan switches under a test clock: every bill is recomputed by other means, to the cent."""

import random
from datetime import UTC, datetime
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from tests.billing.sandbox.account import ANNUAL, DAY, HOUR, MONTHLY, START, Account, amounts, end_of


class Ledger:
    """What is owed, kept apart from the sandbox: decimals, a list of changes, a calendar of its own."""

    def __init__(self, seats: int) -> None:
        self.seats, self.balance = seats, 0
        self.waiting: list[int] = []

    def change(self, seats: int, begin: int, end: int, at: int) -> None:
        left = Decimal(end - at) / Decimal(end - begin)
        if seats != self.seats:
            self.waiting.append(-int((MONTHLY * self.seats * left).quantize(Decimal(1), ROUND_HALF_UP)))
            self.waiting.append(int((MONTHLY * seats * left).quantize(Decimal(1), ROUND_HALF_DOWN)))
        self.seats = seats

    def bill(self) -> tuple[list[int], int]:
        """The lines of the next invoice, and what is charged."""
        lines = [*self.waiting, MONTHLY * self.seats]
        self.waiting = []
        owed = sum(lines) + self.balance
        self.balance = min(0, owed)
        return lines, max(0, owed)


def first_of(month: int) -> int:
    return int(datetime(2026 + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("seed", range(3))
async def test_a_year_of_random_changes_is_billed_to_the_cent(account: Account, seed: int) -> None:
    chance = random.Random(seed)
    payer = await account.payer()
    subscription = await account.subscribe(payer, seats=3)
    ledger = Ledger(3)

    for month in range(12):
        begin, end = first_of(month), first_of(month + 1)
        for at in sorted(chance.sample(range(begin + 2 * HOUR, end), chance.randrange(4))):
            await account.move(payer.clock, at)
            seats = chance.randint(1, 12)
            ledger.change(seats, begin, end, at)
            await account.seats(subscription, seats)
        shown = await account.preview(payer, subscription)
        await account.move(payer.clock, end + 2 * HOUR)
        billed = (await account.invoices(payer))[0]
        lines, charged = ledger.bill()
        customer = await account.v1.customers.retrieve_async(payer.id)

        assert (amounts(billed), billed["amount_paid"], customer["balance"]) == (lines, charged, ledger.balance)
        assert (shown["total"], shown["amount_due"]) == (billed["total"], billed["amount_due"])


async def test_a_switch_to_the_year_and_back_credits_what_was_not_used(account: Account) -> None:
    payer = await account.payer()
    subscription = await account.subscribe(payer, seats=2)
    await account.move(payer.clock, START + 10 * DAY)

    await account.seats(subscription, 3)
    yearly = await account.seats(subscription, 3, price=await account.price("year"))
    await account.move(payer.clock, START + 110 * DAY)
    await account.seats(yearly, 3, price=await account.price("month"))
    back, switched, _ = await account.invoices(payer)

    january = Decimal(21) / 31
    assert amounts(switched) == [
        -int((2 * MONTHLY * january).quantize(Decimal(1), ROUND_HALF_UP)),
        int((3 * MONTHLY * january).quantize(Decimal(1), ROUND_HALF_DOWN)),
        -int((3 * MONTHLY * january).quantize(Decimal(1), ROUND_HALF_UP)),
        3 * ANNUAL,
    ]
    assert end_of(yearly) == START + 375 * DAY
    assert amounts(back) == [-int((3 * ANNUAL * Decimal(265) / 365).quantize(Decimal(1), ROUND_HALF_UP)), 3 * MONTHLY]
    assert (back["amount_due"], back["ending_balance"]) == (0, back["total"])


async def test_more_lines_than_an_invoice_shows_are_asked_for(account: Account) -> None:
    payer = await account.payer()
    subscription = await account.subscribe(payer)
    for day in range(1, 9):
        await account.move(payer.clock, START + day * DAY)
        await account.seats(subscription, day + 1)

    await account.move(payer.clock, end_of(subscription) + 2 * HOUR)
    billed = (await account.invoices(payer))[0]
    found: Any = await account.v1.invoices.line_items.list_async(billed["id"], {"limit": 5})
    lines = [line["amount"] async for line in found.auto_paging_iter()]

    assert (len(billed["lines"]["data"]), billed["lines"]["has_more"], len(lines)) == (10, True, 17)
    assert sum(lines) == billed["total"]
