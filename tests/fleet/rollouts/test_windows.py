"""Windows of the day: the clock on the wall decides, over midnight and when the clocks change."""

from datetime import UTC, datetime, timedelta

import pytest

from errors import InvalidInput
from fleet.rollouts.windows import Weekday, Window

VIENNA = "Europe/Vienna"


def hours(window: Window, day: str) -> list[int]:
    """The hours of a day in UTC, counted from its midnight there, at whose half the window is open."""
    begin = datetime.fromisoformat(f"{day}T00:30:00+00:00")
    return [hour for hour in range(24) if window.is_open(begin + timedelta(hours=hour))]


def test_a_window_begins_with_its_first_minute_and_ends_before_its_last() -> None:
    window = Window.of("09:00", "17:30", "UTC")

    at = [datetime(2026, 11, 22, *time, tzinfo=UTC) for time in ((8, 59, 59), (9, 0), (17, 29, 59), (17, 30))]

    assert [window.is_open(moment) for moment in at] == [False, True, True, False]


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    window = Window.of("22:00", "04:00", "UTC", [Weekday.SATURDAY])

    assert hours(window, "2026-11-21") == [22, 23], "a Saturday"
    assert hours(window, "2026-11-22") == [0, 1, 2, 3], "the Sunday after it"
    assert hours(window, "2026-11-23") == []


def test_a_zone_is_followed_through_the_year() -> None:
    window = Window.of("08:00", "10:00", VIENNA)

    assert hours(window, "2026-07-01") == [6, 7]
    assert hours(window, "2026-12-01") == [7, 8]


def test_an_hour_that_the_clocks_skip_is_missing_and_one_they_repeat_counts_twice() -> None:
    """Vienna skips 02:00 to 03:00 on 2026-03-29, which would begin at 01:00 UTC, and has it twice on 2026-10-25."""
    window = Window.of("02:00", "03:00", VIENNA)

    assert hours(window, "2026-03-28") == [1]
    assert hours(window, "2026-03-29") == []
    assert hours(window, "2026-10-25") == [0, 1]
    assert hours(window, "2026-10-26") == [1]


def test_a_window_over_the_night_of_the_change_is_an_hour_shorter_or_longer_and_of_the_right_day() -> None:
    window = Window.of("22:00", "04:00", VIENNA, [Weekday.SATURDAY])

    assert (hours(window, "2026-03-28"), hours(window, "2026-03-29")) == ([21, 22, 23], [0, 1]), "five hours"
    assert (hours(window, "2026-10-24"), hours(window, "2026-10-25")) == ([20, 21, 22, 23], [0, 1, 2]), "seven"


def test_what_is_stored_is_the_window_again() -> None:
    window = Window.of("22:00", "04:00", VIENNA, [Weekday.SUNDAY, Weekday.MONDAY])

    assert window.to_store() == {"from": "22:00", "to": "04:00", "timeZone": VIENNA, "days": ["MONDAY", "SUNDAY"]}
    assert Window.stored(window.to_store()) == window


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (("9:00", "17:00", "UTC"), "from"),
        (("09:00:00", "17:00", "UTC"), "from"),
        (("09:00", "24:00", "UTC"), "to"),
        (("09:00", "09:00", "UTC"), "to"),
        (("09:00", "17:00", "../etc/passwd"), "timeZone"),
        (("09:00", "17:00", ""), "timeZone"),
        (("09:00", "17:00", "UTC", []), "days"),
    ],
)
def test_what_is_no_window_is_refused(terms: tuple[str, ...], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Window.of(*terms)  # type: ignore[arg-type]

    assert refused.value.path == ("window", field)
