"""Purging takes what has passed and nothing younger, and says how far it went."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from models.sql import rows
from models.transaction import transaction
from realtime import log, retention
from realtime.cursor import Gap, GapReason
from settings import Settings
from tests.realtime.samples import NOON, an_event

DAY = timedelta(days=1)


async def append(name: str, age: timedelta) -> log.Entry:
    async with transaction():
        return (await log.append(an_event(name, published_at=NOON - age)))[0]


async def kept() -> list[str]:
    return [entry.name for entry in (await log.read_after(0)).entries]


async def test_what_is_older_than_the_retention_goes(db: Settings) -> None:
    await append("old", DAY + timedelta(seconds=1))
    await append("just young enough", DAY)
    await append("new", timedelta(0))

    assert await retention.purge(Settings(), NOON) == 1
    assert await kept() == ["just young enough", "new"]


async def test_more_rows_than_allowed_go_oldest_first(db: Settings) -> None:
    for number in range(7):
        await append(str(number), timedelta(0))

    assert await retention.purge(Settings(log_max_rows=5), NOON) == 2
    assert await kept() == ["2", "3", "4", "5", "6"]
    assert await retention.purge(Settings(log_max_rows=5), NOON) == 0


async def test_one_entry_of_a_wrong_clock_takes_no_young_one_along(db: Settings) -> None:
    """The border was once the last old entry: one of 1970 at the end of the log purged all of it."""
    await append("young", timedelta(0))
    await append("of 1970", timedelta(days=20_000))
    await append("young too", timedelta(0))

    assert await retention.purge(Settings(), NOON) == 0
    assert await kept() == ["young", "of 1970", "young too"]


async def test_what_is_appended_while_a_purge_looks_is_kept(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log was once asked for a young entry and then for its end: one appended in between went with the old ones."""
    appended: list[str] = []

    async def rows_and_one_more(sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        found = await rows(sql, params)
        appended.append(f"after statement {len(appended) + 1}")
        await append(appended[-1], timedelta(0))
        return found

    await append("old", 2 * DAY)
    monkeypatch.setattr(retention, "rows", rows_and_one_more)

    assert await retention.purge(Settings(), NOON) == 1
    assert await kept() == appended


async def test_a_cursor_from_before_the_border_is_a_gap_and_the_border_itself_is_not(db: Settings) -> None:
    oldest = await append("a", 2 * DAY)
    last_gone = await append("b", 2 * DAY)
    await append("c", timedelta(0))

    await retention.purge(Settings(), NOON)

    gap = await log.check_cursor(oldest.cursor)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.after, gap.to.position) == (GapReason.RETENTION, oldest.cursor, last_gone.position)
    assert await log.check_cursor(last_gone.cursor) == last_gone.position
    assert (await log.read_after(0)).purged_through == last_gone.position


async def test_a_log_purged_to_its_end_goes_on_from_there(db: Settings) -> None:
    last = await append("a", 2 * DAY)

    assert await retention.purge(Settings(), NOON) == 1

    assert (await log.head()).position == last.position
    assert (await append("b", timedelta(0))).position > last.position


async def test_a_long_log_is_purged_in_pieces(db: Settings) -> None:
    async with transaction():
        await log.append(*(an_event(str(number), published_at=NOON - 2 * DAY) for number in range(25)))
    original, retention.PIECE = retention.PIECE, 10
    try:
        assert await retention.purge(Settings(), NOON) == 25
    finally:
        retention.PIECE = original
