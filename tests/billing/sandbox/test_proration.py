"""Parts of periods to the second and the cent."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal, getcontext

from hypothesis import example, given
from hypothesis import strategies as st

from billing.sandbox.proration import Period, Seats, months_after, period_after, remaining, unused
from tests.billing.sandbox.account import DAY

getcontext().prec = 60


def seconds(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[misc]


def test_a_third_member_after_ten_of_thirty_days() -> None:
    """Source: billing, "Seats and proration", first worked figure."""
    period = Period(0, 30 * DAY)

    assert unused(Seats(4900, 2), period, 10 * DAY) == -6533
    assert remaining(Seats(4900, 3), period, 10 * DAY) == 9800


def test_a_second_member_after_73_of_365_days() -> None:
    """Source: billing, "Seats and proration", second worked figure."""
    period = Period(0, 365 * DAY)

    assert unused(Seats(58_800, 1), period, 73 * DAY) == -47_040
    assert remaining(Seats(58_800, 2), period, 73 * DAY) == 94_080


def test_halves_of_a_cent_go_down() -> None:
    period = Period(0, 400)

    assert unused(Seats(500, 2), period, 399) == -3
    assert remaining(Seats(500, 3), period, 399) == 4  # 3.75
    assert remaining(Seats(600, 3), period, 399) == 4  # 4.5
    assert remaining(Seats(1000, 3), period, 399) == 7  # 7.5


def test_outside_of_the_period_all_or_nothing_is_left() -> None:
    period = Period(100, 200)

    assert [remaining(Seats(10, 1), period, at) for at in (0, 100, 200, 900)] == [10, 10, 0, 0]


@given(
    unit=st.integers(1, 1_000_000),
    seats=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    length=st.integers(1, 400 * DAY),
    share=st.floats(0, 1),
)
@example(unit=4900, seats=(2, 3), length=30 * DAY, share=1 / 3)
def test_both_lines_sum_to_what_decimal_arithmetic_gives(unit: int, seats: tuple[int, int], length: int, share: float) -> None:
    """Recomputed with another number type and another rounding function."""
    period, at = Period(0, length), int(length * share)
    left = Decimal(length - at) / Decimal(length)

    credit = -(unit * seats[0] * left).quantize(Decimal(1), ROUND_HALF_UP)
    debit = (unit * seats[1] * left).quantize(Decimal(1), ROUND_HALF_DOWN)

    assert unused(Seats(unit, seats[0]), period, at) + remaining(Seats(unit, seats[1]), period, at) == credit + debit


@given(anchor=st.integers(seconds(2024, 1, 1), seconds(2040, 1, 1)), months=st.integers(0, 60))
def test_periods_follow_each_other_without_a_gap_and_keep_the_anchor_s_time_of_day(anchor: int, months: int) -> None:
    period = period_after(anchor, months_after(anchor, months), "month", 1)
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (period.start, period.end))

    assert period.end == months_after(anchor, months + 1)
    assert (end.year * 12 + end.month) - (begin.year * 12 + begin.month) == 1
    assert end.time() == begin.time()


def test_the_31st_comes_back_after_february() -> None:
    anchor = seconds(2026, 1, 31)

    february = period_after(anchor, anchor, "month", 1)
    march = period_after(anchor, february.end, "month", 1)

    assert (february.end, march.end) == (seconds(2026, 2, 28), seconds(2026, 3, 31))


def test_a_leap_year_is_a_year() -> None:
    anchor = seconds(2024, 2, 29)

    assert period_after(anchor, anchor, "year", 1).end == seconds(2025, 2, 28)
    assert period_after(anchor, seconds(2027, 2, 28), "year", 1).end == seconds(2028, 2, 29)
    assert period_after(anchor, anchor, "week", 2).end == anchor + 14 * DAY
