"""What a part of a period costs: pure arithmetic to the second and the cent, and where periods end on the calendar."""

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil


@dataclass(frozen=True)
class Seats:
    """So many seats at so many cents a period."""

    unit_amount: int
    quantity: int

    @property
    def amount(self) -> int:
        return self.unit_amount * self.quantity


@dataclass(frozen=True)
class Period:
    """Seconds since 1970; the end belongs to the next one."""

    start: int
    end: int

    def left_at(self, moment: int) -> Fraction:
        """The part of the period still to come, between 0 and 1."""
        return Fraction(min(max(self.end - moment, 0), self.end - self.start), self.end - self.start)


def unused(seats: Seats, period: Period, at: int) -> int:
    """The credit for what was paid and will not be used: zero or negative cents."""
    return rounded(-seats.amount * period.left_at(at))


def remaining(seats: Seats, period: Period, at: int) -> int:
    """The price of the rest of the period in cents."""
    return rounded(seats.amount * period.left_at(at))


def rounded(amount: Fraction) -> int:
    """To the nearest cent, halves down: recordings of the real thing show -2.5 as -3, and 4.5 as 4."""
    return ceil(amount - Fraction(1, 2))


def period_after(anchor: int, start: int, interval: str, count: int) -> Period:
    """The period that begins at `start`: its end is counted from the anchor, so that the 31st comes back after February."""
    if interval in ("day", "week"):
        return Period(start, start + count * (86400 if interval == "day" else 7 * 86400))
    months = count * (12 if interval == "year" else 1)
    steps = 0
    while (end := months_after(anchor, steps * months)) <= start:
        steps += 1
    return Period(start, end)


def months_after(moment: int, months: int) -> int:
    """The same day and time so many months later, or the month's last day where it has no such day."""
    first = datetime.fromtimestamp(moment, UTC)
    years, month = divmod(first.month - 1 + months, 12)
    year, month = first.year + years, month + 1
    day = min(first.day, calendar.monthrange(year, month)[1])
    return int(first.replace(year=year, month=month, day=day).timestamp())
