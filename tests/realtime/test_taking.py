"""What a process has committed itself it does not read again, and still nothing is skipped, repeated or out of order."""

import asyncio
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from models.transaction import transaction
from realtime import log, wakeup
from realtime.cursor import Gap, GapReason
from realtime.dispatcher import Dispatcher
from realtime.flusher import Flusher
from realtime.log import Entry
from realtime.wakeup import Wakeup
from settings import Settings
from tests.realtime.reading import append, names, nothing_comes, running, take
from tests.realtime.samples import PRODUCT, an_event, append_elsewhere, device_id


async def test_what_was_committed_here_comes_without_being_read_again(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: object, **options: object) -> None:
        raise ConnectionResetError("gone")

    async with running() as dispatcher, Flusher(dispatcher._wakeup) as flusher:
        reader = await dispatcher.subscribe(PRODUCT)
        monkeypatch.setattr(log, "read_after", fail)
        appended = await append("a", "b")
        published = [await flusher.publish(an_event(name, device_id=device_id(1), event_key=name)) for name in ("c", "d", "c")]

        assert await take(reader, 4) == [*appended, *published[:2]]
        assert published[2] == published[0]
        assert await nothing_comes(reader)


@pytest.mark.parametrize("count", [1, log.COPIED_FROM])
async def test_what_was_committed_here_is_what_is_read_of_it(db: Settings, count: int) -> None:
    away = timezone(timedelta(hours=-5, minutes=-30))
    told = datetime(2026, 3, 1, 23, 59, 59, 123456, tzinfo=away)
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        await append(
            *["é\u0301😀"] * count, published_at=told, device_time=told, device_id=device_id(1), data='{"a": "ß"}', firmware_version=7
        )
        taken = await take(reader, count)

    read = (await log.read_after(0)).entries
    assert taken == read
    assert [entry.device_time.isoformat() for entry in taken if entry.device_time] == ["2026-03-02T05:29:59.123456+00:00"] * count
    assert [entry.device_time.isoformat() for entry in read if entry.device_time] == ["2026-03-02T05:29:59.123456+00:00"] * count


async def test_what_another_process_committed_before_comes_before(db: Settings) -> None:
    """Nobody has told of it yet: only the missing position gives it away."""
    async with running() as dispatcher:
        await asyncio.sleep(0.05)  # it has looked, and looks again in a second
        reader = await dispatcher.subscribe(PRODUCT)
        await append("a")
        async with transaction():
            await log.write([an_event("theirs")])
        await append("b")
        await append_elsewhere("theirs too")
        await append("c")

        assert names(await take(reader, 5)) == ["a", "theirs", "b", "theirs too", "c"]
        assert await nothing_comes(reader)


async def test_what_is_taken_while_a_page_is_on_its_way_comes_once(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    read_after = log.read_after
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(position: int, **only: Any) -> log.Page:
        asked.set()
        await goes_on.wait()
        return await read_after(position, **only)

    async with running() as dispatcher:
        reader, behind = await dispatcher.subscribe(PRODUCT), await dispatcher.subscribe(PRODUCT)
        monkeypatch.setattr(log, "read_after", slow)
        wakeup.notify(wakeup.LOG)
        await asked.wait()
        await append("a", "b")
        assert names(await take(reader, 2)) == ["a", "b"]
        await append_elsewhere("c")
        goes_on.set()

        assert names(await take(reader, 1)) == ["c"]
        assert names(await take(behind, 3)) == ["a", "b", "c"]
        assert await nothing_comes(reader)


async def test_of_another_life_of_the_database_nothing_is_taken(db: Settings) -> None:
    """Were the new life's first entry handed on without a word, nothing would be left to tell it by."""
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        (before,) = await append("before")
        assert await take(reader, 1) == [before]
        assert dispatcher._take([before._replace(position=before.position + 1, epoch="another")]) is False
        assert dispatcher.position == before.position

        await log.begin_new_epoch()
        (after,) = await append("after")
        async with asyncio.timeout(5):
            gap = await reader.next()

        assert isinstance(gap, Gap)
        assert (gap.reason, gap.to.epoch) == (GapReason.RESTORED, after.epoch)
        if gap.to != after.cursor:  # it looked before there was anything new
            assert await take(reader, 1) == [after]


async def test_two_processes_that_commit_at_once_hand_on_the_same_log(postgres_db: Settings) -> None:
    """Each takes its own from memory and reads the other's; neither may skip, repeat or reorder."""

    async def publish(flusher: Flusher, seed: int) -> None:
        dice = random.Random(seed)
        for number in range(30):
            key = f"{seed}-{number}" if dice.random() < 0.8 else f"{seed}-0"  # said before: its position is lost
            await flusher.publish(an_event(f"{seed}", device_id=device_id(seed % 3), event_key=key))

    one, other = Wakeup(), Wakeup()  # neither hears of the other before it looks
    async with Dispatcher(one) as mine, Dispatcher(other) as theirs, Flusher(one) as first, Flusher(other) as second:
        readers = [await each.subscribe(PRODUCT) for each in (mine, theirs)]
        await asyncio.gather(*(publish((first, second)[seed % 2], seed) for seed in range(24)))  # each says what the other does not
        stored: list[Entry] = []
        while page := (await log.read_after(stored[-1].position if stored else 0)).entries:
            stored += page

        assert [await take(reader, len(stored)) for reader in readers] == [stored, stored]
