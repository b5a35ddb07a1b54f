"""The dispatcher and its readers: everything after a position, in order, once, or a gap that is told."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from models.log import DeviceChange, EntryKind
from models.transaction import transaction
from realtime import dispatcher as dispatching
from realtime import log, retention, wakeup
from realtime.dispatcher import Dispatcher, Filter, Reader
from realtime.log import Entry
from realtime.wakeup import Wakeup
from settings import Settings
from tests.patience import PATIENCE_S
from tests.realtime.reading import append, names, nothing_comes, running, slow_one, take
from tests.realtime.samples import NOON, PRODUCT, an_event, append_elsewhere, device_id, until


async def test_a_reader_without_a_position_begins_now(db: Settings) -> None:
    await append("before")
    async with running() as dispatcher:
        await append("before too")
        reader = await dispatcher.subscribe(PRODUCT)
        await append("after")

        assert names(await take(reader, 1)) == ["after"]
        assert await nothing_comes(reader)


async def test_a_dispatcher_that_lags_neither_replays_the_past_nor_misses_the_present(
    db: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slow_one(monkeypatch) as slow:
        await append("before")
        assert slow.position == 0
        reader = await slow.subscribe(PRODUCT)
        await append("after")
        slow.look()

        assert names(await take(reader, 1)) == ["after"]


async def test_without_any_wake_up_entries_come_all_the_same(db: Settings) -> None:
    async with Dispatcher(Wakeup()) as deaf:
        reader = await deaf.subscribe(PRODUCT)
        await append("a")

        assert names(await take(reader, 1)) == ["a"]


async def test_a_reader_with_a_position_gets_all_after_it_then_goes_on_live(db: Settings) -> None:
    first, *_ = await append("a", "b", "c")
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT, after=first.position)

        assert names(await take(reader, 2)) == ["b", "c"]
        await append("d")
        assert names(await take(reader, 1)) == ["d"]


async def test_topics_are_a_product_or_a_device_and_an_entry_comes_once(db: Settings) -> None:
    async with running() as dispatcher:
        product = await dispatcher.subscribe(PRODUCT)
        device = await dispatcher.subscribe(device_id(1))
        both = await dispatcher.subscribe(PRODUCT, device_id(1), device_id(3))
        other = await dispatcher.subscribe(2000)

        await append("one", device_id=device_id(1))
        await append("two", device_id=device_id(2))
        await append("three", product_number=2000, device_id=device_id(3))
        await append("four")

        assert names(await take(product, 3)) == ["one", "two", "four"]
        assert names(await take(device, 1)) == ["one"]
        assert names(await take(both, 4)) == ["one", "two", "three", "four"]
        assert names(await take(other, 1)) == ["three"]


@pytest.mark.parametrize("replayed", [False, True])
async def test_a_filter_says_the_same_of_memory_and_of_the_database(db: Settings, replayed: bool) -> None:
    cases = {
        Filter(): ["temp/a", "Temp/b", "temp", "ONLINE"],
        Filter(kinds=(EntryKind.EVENT,)): ["temp/a", "Temp/b", "temp"],
        Filter(kinds=(EntryKind.STATUS, EntryKind.ORDER)): ["ONLINE"],
        Filter(name_prefix="temp"): ["temp/a", "temp"],
        Filter(name_prefix="temp/"): ["temp/a"],
        Filter(devices=lambda device: device == device_id(2)): ["Temp/b"],
        Filter(devices=lambda device: device is None): ["temp"],
    }
    async with running() as dispatcher:
        after = 0 if replayed else None
        readers = {} if replayed else {only: await dispatcher.subscribe(PRODUCT, only=only) for only in cases}
        await append("temp/a", device_id=device_id(1))
        await append("Temp/b", device_id=device_id(2))
        await append("temp")
        await append(DeviceChange.ONLINE, kind=EntryKind.STATUS, device_id=device_id(1))
        for only, expected in cases.items():
            reader = readers.get(only) or await dispatcher.subscribe(PRODUCT, after=after, only=only)
            assert names(await take(reader, len(expected))) == expected


async def test_what_a_filter_says_may_change_while_the_stream_runs(db: Settings) -> None:
    allowed = {device_id(1)}
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT, only=Filter(devices=lambda device: device in allowed))
        await append("seen", device_id=device_id(1))
        assert names(await take(reader, 1)) == ["seen"]

        allowed.clear()
        await append("not seen", device_id=device_id(1))
        assert await nothing_comes(reader)


async def test_only_readers_of_touched_topics_are_woken(db: Settings) -> None:
    async with running() as dispatcher:
        quiet = await dispatcher.subscribe(2000)
        busy = await dispatcher.subscribe(PRODUCT)

        await append("a")
        await take(busy, 1)

        assert not quiet.woken.is_set()


async def test_closing_a_reader_ends_it_and_forgets_its_topic(db: Settings) -> None:
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT, device_id(1))
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0.01)

        reader.close()

        assert await waiting is None
        assert dispatcher._topics == {}


async def test_stopping_the_dispatcher_ends_every_reader(db: Settings) -> None:
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        seen: list[Entry] = []
        collecting = asyncio.create_task(_collect(reader, seen))
        await append("a")
        await until(lambda: seen)

    await asyncio.wait_for(collecting, PATIENCE_S)
    assert names(seen) == ["a"]


async def _collect(reader: Reader, seen: list[Entry]) -> None:
    async for found in reader:
        assert isinstance(found, list)
        seen += found


async def test_a_reader_cancelled_while_it_waits_loses_nothing(db: Settings) -> None:
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT, after=0)
        for number in range(20):
            await append(str(number))
        got: list[Entry] = []
        dice = random.Random(1)
        longest_s = 0.003

        while len(got) < 20:
            try:
                async with asyncio.timeout(dice.uniform(0, longest_s)):
                    found = await reader.next()
            except TimeoutError:
                longest_s *= 1.01  # a slow machine has to get there too
                continue
            assert isinstance(found, list)
            got += found

        assert names(got) == [str(number) for number in range(20)]


# ── memory ──
async def test_a_slow_reader_leaves_memory_and_reads_the_database_at_its_own_pace(db: Settings) -> None:
    async with running(ring=100) as dispatcher:
        slow = await dispatcher.subscribe(PRODUCT)
        written = [entry.position for _ in range(30) for entry in await append(*"abcdefghij" * 5)]
        await until(lambda: dispatcher.position == written[-1])

        assert len(dispatcher._ring) <= 110
        assert len(dispatcher._topics[PRODUCT].entries) <= 110
        assert [entry.position for entry in await take(slow, 1500)] == written
        await append("live")
        assert names(await take(slow, 1)) == ["live"]


async def test_a_quiet_reader_is_told_of_no_gap_when_what_others_said_is_purged(db: Settings) -> None:
    async with running(ring=50) as dispatcher:
        quiet = await dispatcher.subscribe(2000)
        await dispatcher.subscribe(PRODUCT)  # so that what others say is kept in memory, and pushes the rest out
        await append("first", product_number=2000)
        assert names(await take(quiet, 1)) == ["first"]
        for _ in range(10):
            *_, last = await append(*"abcdefghij" * 5)
        await until(lambda: dispatcher.position == last.position)
        await retention.purge(Settings(log_max_rows=5), NOON)

        await append("second", product_number=2000)

        assert names(await take(quiet, 1)) == ["second"]


# ── the seam ──
async def test_nothing_is_lost_or_repeated_at_the_seam_of_replay_and_live(postgres_db: Settings) -> None:
    """Readers join at random places while twenty writers write and memory holds little; each must see exactly the log after its start."""
    async with running(ring=64) as dispatcher:

        async def write(seed: int) -> None:
            dice = random.Random(seed)
            for number in range(40):
                async with transaction():
                    await asyncio.sleep(dice.uniform(0, 0.01))
                    entries = [an_event(f"{seed}-{number}", product_number=PRODUCT + seed % 2) for _ in range(dice.randint(1, 4))]
                    await (log.append(*entries) if dice.random() < 0.5 else log.write(entries))
                wakeup.notify(wakeup.LOG)  # what was only written may be another process's

        async def read(seed: int) -> tuple[int, int, list[int]]:
            dice = random.Random(seed)
            await asyncio.sleep(dice.uniform(0, 0.3))
            head = (await log.head()).position
            after = dice.randint(0, head) if head and seed % 2 else None
            number = PRODUCT + seed % 3 % 2
            reader = await dispatcher.subscribe(number, after=after)
            start, seen = reader.position, []
            async for found in reader:
                assert isinstance(found, list)
                seen += [entry.position for entry in found if entry.name != "end"]
                if found[-1].name == "end":
                    return number, start, seen
                if seed % 5 == 0:
                    await asyncio.sleep(0.05)  # a slow one
            raise AssertionError("closed before its end")

        readers = [asyncio.create_task(read(seed)) for seed in range(30)]
        await asyncio.gather(*(write(seed) for seed in range(20)))
        ends = {entry.position for number in (PRODUCT, PRODUCT + 1) for entry in await append("end", product_number=number)}
        for number, start, seen in await asyncio.gather(*readers):
            expected: list[int] = []
            while page := (await log.read_after(expected[-1] if expected else start, product_numbers=[number])).entries:
                expected += [entry.position for entry in page]
            assert seen == [position for position in expected if position not in ends]


async def test_what_is_committed_while_a_page_is_on_its_way_from_the_database_is_not_skipped(
    db: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page does not have it, and by the time it arrives the dispatcher has: the reader must not believe it was in the page."""
    async with running() as dispatcher:
        await append("early")
        read_after = log.read_after

        async def slow(position: int, **only: Any) -> log.Page:
            page = await read_after(position, **only)
            if only:  # the reader's, not the dispatcher's
                (late,) = await append("late")
                await until(lambda: dispatcher.position >= late.position)
            return page

        monkeypatch.setattr(log, "read_after", slow)
        await until(lambda: dispatcher.position)
        await dispatcher.subscribe(PRODUCT)
        reader = await dispatcher.subscribe(PRODUCT, after=0)

        assert names(await take(reader, 2)) == ["early", "late"]


async def test_a_database_that_does_not_answer_for_a_while_costs_a_stream_nothing(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "AGAIN_S", 0.05)
    async with running() as dispatcher:
        reader = await dispatcher.subscribe(PRODUCT)
        replaying = await dispatcher.subscribe(PRODUCT, after=0)
        read_after: Callable[..., object] = log.read_after

        async def fail(*args: object, **options: object) -> None:
            raise ConnectionResetError("gone")

        monkeypatch.setattr(log, "read_after", fail)
        await append_elsewhere("a")
        waiting = [asyncio.create_task(each.next()) for each in (reader, replaying)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        monkeypatch.setattr(log, "read_after", read_after)

        found = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)

        assert [names(each) for each in found if isinstance(each, list)] == [["a"], ["a"]]
