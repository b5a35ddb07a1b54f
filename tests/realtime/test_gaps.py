"""Gaps: what a stream is told of what it can never get, because it was purged or the database was put back."""

import asyncio
from datetime import timedelta

import pytest

from models.sql import execute
from realtime import log, retention
from realtime.cursor import Cursor, Gap, GapReason
from settings import Settings
from tests.patience import PATIENCE_S
from tests.realtime.reading import append, names, running, slow_one, take
from tests.realtime.samples import NOON, PRODUCT, until


async def test_a_reader_that_is_purged_past_is_told_and_goes_on(db: Settings) -> None:
    """T20."""
    async with running(ring=10) as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        start = reader.position
        entries = [entry for _ in range(5) for entry in await append(*"abcdefghij")]
        await until(lambda: dispatcher.position == entries[-1].position)
        await retention.purge(Settings(log_max_rows=30), NOON)

        gap = await reader.next()

        through = entries[19].position
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.after.position, gap.to.position) == (GapReason.RETENTION, start, through)
        assert await log.check_cursor(gap.to) == through
        assert [entry.position for entry in await take(reader, 30)] == [entry.position for entry in entries[20:]]


async def test_a_dispatcher_that_is_purged_past_hides_nothing_from_its_readers(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with slow_one(monkeypatch) as slow:
        reader = await slow.subscribe(PRODUCT)
        await append(*"abcdefghij")
        await retention.purge(Settings(log_max_rows=3), NOON)
        slow.look()

        async with asyncio.timeout(PATIENCE_S):
            gap = await reader.next()

        assert isinstance(gap, Gap)
        assert gap.reason is GapReason.RETENTION
        assert names(await take(reader, 3)) == ["h", "i", "j"]


async def test_a_log_purged_to_its_end_is_told_once(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with slow_one(monkeypatch) as slow:
        reader = await slow.subscribe(PRODUCT)
        *_, last = await append(*"abc")
        await retention.purge(Settings(), NOON + timedelta(days=2))
        slow.look()

        async with asyncio.timeout(PATIENCE_S):
            gap = await reader.next()
        await append("d")
        slow.look()

        assert isinstance(gap, Gap)
        assert gap.to == Cursor(last.epoch, last.position, 0)
        assert names(await take(reader, 1)) == ["d"]


async def test_a_database_restored_under_a_running_server_is_a_gap_for_every_stream(db: Settings) -> None:
    """T19, second half: without it the next entries would get positions the dispatcher believes it has read, and nobody would see them."""
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        kept, *_ = await append("kept", "lost", "lost too")
        assert len(await take(reader, 3)) == 3

        await execute("DELETE FROM log_entry WHERE position > $1", [kept.position])
        async with asyncio.timeout(PATIENCE_S):
            gap = await reader.next()

        assert isinstance(gap, Gap)
        assert (gap.reason, gap.to) == (GapReason.RESTORED, kept.cursor)
        await execute(
            "INSERT INTO log_entry (position, product_number, kind, name, published_at, ttl, tag)"
            " VALUES ($1, $2, 'event', 'new', $3, 60, 77)",
            [kept.position + 1, PRODUCT, NOON],
        )
        assert names(await take(reader, 1)) == ["new"]
