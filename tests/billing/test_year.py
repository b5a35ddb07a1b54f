"""A year of an organization's life, every invoice recomputed from the rules alone: joins, leaves, another plan, a lock, a return."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.payer import Payer, days, moment

HOUR = timedelta(hours=1)
MONTHLY, ANNUAL = 4900, 58800


def part(amount: int, rest: timedelta, whole: timedelta) -> int:
    """Of an amount for a whole period, what its rest costs: to the second, rounded half up to the cent."""
    exact = Decimal(amount) * int(rest.total_seconds()) / int(whole.total_seconds())
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


@dataclass
class Books:
    """What the guide says is owed, kept by hand: no code of ours or of the sandbox is asked."""

    unit: int
    begins: datetime
    ends: datetime
    seats: int
    pending: int = 0
    invoices: list[int] = field(default_factory=list)

    def change_seats(self, seats: int, at: datetime) -> None:
        rest, whole = self.ends - at, self.ends - self.begins
        self.pending += part(self.unit * seats, rest, whole) - part(self.unit * self.seats, rest, whole)
        self.seats = seats

    def change_plan(self, unit: int, at: datetime, ends: datetime) -> None:
        """Charged at once, for the new period from now on, less the unused rest of the old one and what was pending."""
        credit = part(self.unit * self.seats, self.ends - at, self.ends - self.begins)
        self.invoices.append(unit * self.seats - credit + self.pending)
        self.unit, self.begins, self.ends, self.pending = unit, at, ends, 0

    def renew(self, ends: datetime) -> None:
        self.invoices.append(self.unit * self.seats + self.pending)
        self.begins, self.ends, self.pending = self.ends, ends, 0

    def come_back(self, at: datetime, ends: datetime) -> None:
        self.invoices.append(self.unit * self.seats)
        self.begins, self.ends, self.pending = at, ends, 0


class Year:
    """Lives the story and keeps the books beside it."""

    def __init__(self, payer: Payer, owner: str, books: Books) -> None:
        self.payer, self.owner, self.books = payer, owner, books

    async def go_to(self, at: datetime) -> dict[str, Any]:
        return await self.payer.advance(self.owner, at)

    async def renew(self) -> dict[str, Any]:
        """Over the end of the period and the hour for which the invoice is a draft."""
        billing = await self.go_to(self.books.ends + 2 * HOUR)
        self.books.renew(moment(billing["currentPeriodEnd"]))
        return billing

    async def join(self, name: str, at: datetime) -> None:
        await self.go_to(at)
        await self.payer.member(self.owner, name, "DEVELOPER")
        await self.payer.work()
        self.books.change_seats(self.books.seats + 1, at)

    async def leave(self, name: str, at: datetime) -> None:
        await self.go_to(at)
        team = await self.payer.ask('{ organization(slug: "acme") { members { id user { email } } } }', self.owner)
        (seat,) = [each["id"] for each in team["organization"]["members"] if each["user"]["email"] == f"{name}@example.com"]
        assert (await self.payer.do("removeMember", "organization { slug }", self.owner, memberId=seat))["errors"] == []
        await self.payer.work()
        self.books.change_seats(self.books.seats - 1, at)

    async def use(self, card: str) -> None:
        await self.payer.act("updateCard", self.owner, setupId=await self.payer.setup(self.owner, card))

    async def charged(self) -> list[int]:
        """Totals of what was invoiced, the trial's zero and what was voided left out, oldest first."""
        return [each["total"] for each in reversed(await self.payer.invoices(self.owner)) if each["status"] == "paid" and each["total"]]


async def test_a_year_of_paying_is_right_to_the_cent(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    trial_ends = moment((await payer.billing(owner))["trialEndsAt"])
    year = Year(payer, owner, Books(MONTHLY, trial_ends, trial_ends, 1))
    books = year.books

    await payer.advance(owner, trial_ends - days(20))  # in the trial: a member joins, nobody pays for it
    await payer.member(owner, "bob", "ADMIN")
    await payer.work()
    books.seats = 2

    await year.renew()  # the first month, two seats
    await year.join("eve", books.begins + days(7) + timedelta(hours=3, seconds=17))
    await year.join("kim", books.begins + days(19))
    await year.renew()  # the second: four seats, and what two of them owe of the first
    await year.leave("bob", books.begins + days(2))
    await year.leave("kim", books.begins + days(2) + HOUR)
    await year.renew()  # the third: two seats, less two credits

    at = books.begins + days(11)
    await year.go_to(at)
    switched = await payer.act("changePlan", owner, plan="TEAM_ANNUAL")
    books.change_plan(ANNUAL, at, moment(switched["currentPeriodEnd"]))
    await year.join("liv", at + days(100))
    assert await year.charged() == books.invoices

    at = books.begins + days(150)
    await year.go_to(at)  # back to months: the rest of the year is more than a month costs, a credit stays
    back = await payer.act("changePlan", owner, plan="TEAM_MONTHLY")
    shown = (await payer.invoices(owner))[0]
    books.change_plan(MONTHLY, at, moment(back["currentPeriodEnd"]))
    assert shown["total"] == books.invoices[-1] < 0

    while books.ends < trial_ends + days(365):
        await year.renew()
    totals = [each["total"] for each in reversed(await payer.invoices(owner)) if each["total"]]
    assert totals == books.invoices
    assert len(books.invoices) >= 8
    assert (await payer.billing(owner))["state"] == "ACTIVE"


async def test_half_a_year_with_a_decline_a_lock_and_a_return_is_right_to_the_cent(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    trial_ends = moment((await payer.billing(owner))["trialEndsAt"])
    year = Year(payer, owner, Books(MONTHLY, trial_ends, trial_ends, 1))
    books = year.books

    await year.renew()
    await year.join("bob", books.begins + days(10))
    await year.use("pm_card_chargeCustomerFail")
    late = await year.renew()  # declined
    await year.go_to(books.begins + HOUR + days(4))
    await year.use("pm_card_visa")  # and paid at the third try, by hand
    assert late["state"] == "PAST_DUE"
    assert await year.charged() == books.invoices

    await year.join("eve", books.begins + days(12))
    await year.use("pm_card_chargeCustomerFail")
    await year.go_to(books.ends + days(5))
    await payer.member(owner, "kim", "DEVELOPER")  # who joins while nobody pays is free until the team comes back
    await payer.work()
    books.seats += 1
    await year.go_to(books.ends + HOUR + days(20))
    locked = await payer.billing(owner)
    await year.use("pm_card_visa")
    at = await payer.now()
    back = await payer.act("reactivateSubscription", owner)
    books.come_back(at, moment(back["currentPeriodEnd"]))  # what was pending and what was owed is gone: not one cent of it
    await year.renew()

    assert locked["state"] == "LOCKED"
    assert await year.charged() == books.invoices
    assert books.invoices[-2:] == [4 * 4900, 4 * 4900]
    assert (await payer.billing(owner))["state"] == "ACTIVE"
