"""The log: appended in order with the verb's transaction, read after a position, honest about what is gone."""

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from errors import InvalidInput
from models.log import DeviceChange, EntryKind
from models.sql import execute, rows
from models.transaction import transaction
from realtime import log, wakeup
from realtime.chosen_wakeup import open_wakeup
from realtime.cursor import Cursor, Gap, GapReason
from settings import Settings
from tests.realtime.samples import NOON, PRODUCT, an_event, device_id


async def append(*names: str, **fields: object) -> list[log.Entry]:
    async with transaction():
        return await log.append(*(an_event(name, **fields) for name in names))


async def append_and_fail() -> None:
    async with transaction():
        await log.append(an_event())
        raise ZeroDivisionError


async def test_an_entry_comes_back_as_it_was_appended(db: Settings) -> None:
    tokyo = timezone(timedelta(hours=9))
    said = an_event(
        "temperature",
        device_id=device_id(1),
        data="21.5 °C",
        device_time=datetime(2026, 3, 1, 21, 0, 0, 123456, tzinfo=tokyo),
        ttl=30,
        firmware_version=3,
        event_key="e-1",
    )

    async with transaction():
        (written,) = await log.append(said)

    (read,) = (await log.read_after(0)).entries
    assert read == written
    assert read.data == "21.5 °C"
    assert read.published_at == NOON
    assert read.device_time == datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert (read.kind, read.ttl, read.firmware_version, read.event_key) == (EntryKind.EVENT, 30, 3, "e-1")


async def test_more_entries_than_a_statement_takes_are_appended_in_their_order(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SQLITE_ROWS", 2)

    appended = await append("a", "b", "c", "d", "e")

    page = await log.read_after(0)
    assert page.entries == appended
    assert [entry.name for entry in page.entries] == ["a", "b", "c", "d", "e"]


async def test_entries_are_read_in_the_order_appended(db: Settings) -> None:
    appended = [*await append("a", "b", "c"), *await append("d")]

    page = await log.read_after(appended[0].position)

    assert [entry.name for entry in page.entries] == ["b", "c", "d"]
    assert page.purged_through == 0


async def test_a_rolled_back_append_leaves_nothing_and_wakes_nobody(db: Settings) -> None:
    heard: list[str | None] = []

    async with open_wakeup(Settings()) as chosen:
        chosen.listen(wakeup.LOG, heard.append)
        with pytest.raises(ZeroDivisionError):
            await append_and_fail()
        assert heard == []
        await append("a")

    assert heard == [""]
    assert [entry.name for entry in (await log.read_after(0)).entries] == ["a"]


async def test_append_outside_of_a_transaction_is_refused(db: Settings) -> None:
    with pytest.raises(RuntimeError):
        await log.append(an_event())

    assert (await log.read_after(0)).entries == []


async def test_a_time_without_a_zone_is_refused(db: Settings) -> None:
    with pytest.raises(ValueError, match="zone"):
        await append("a", device_time=datetime(2026, 3, 1))  # noqa: DTZ001

    assert (await log.read_after(0)).entries == []


async def test_reading_is_narrowed_by_product_device_kind_and_prefix(db: Settings) -> None:
    await append("temp/in", device_id=device_id(1))
    await append("Temp/out", device_id=device_id(2))
    await append("temp_x", product_number=2000, device_id=device_id(3))
    await append(DeviceChange.ONLINE, kind=EntryKind.STATUS, device_id=device_id(1))

    async def names(**only: object) -> list[str]:
        return [entry.name for entry in (await log.read_after(0, **only)).entries]  # type: ignore[arg-type]

    assert await names(product_numbers=[PRODUCT]) == ["temp/in", "Temp/out", "ONLINE"]
    assert await names(device_ids=[device_id(1)]) == ["temp/in", "ONLINE"]
    assert await names(device_ids=[device_id(1), device_id(3)]) == ["temp/in", "temp_x", "ONLINE"]
    assert await names(product_numbers=[2000], device_ids=[device_id(2)]) == ["Temp/out", "temp_x"]
    assert await names(product_numbers=[PRODUCT], kinds=[EntryKind.EVENT]) == ["temp/in", "Temp/out"]
    assert await names(kinds=[EntryKind.STATUS, EntryKind.ORDER]) == ["ONLINE"]
    assert await names(name_prefix="temp") == ["temp/in", "temp_x"]
    assert await names(name_prefix="temp_") == ["temp_x"]
    assert await names(name_prefix="t%") == []
    assert await names(limit=2) == ["temp/in", "Temp/out"]


async def test_a_page_ends_once_its_data_is_enough_bytes(db: Settings) -> None:
    """What a reader that stalls holds is a page: 500 events of 16 KiB were 8 MiB each."""
    await append(*map(str, range(40)), data="é" * (8 << 10))
    await append("last", data="x" * log.PAGE_BYTES)

    pages = [await log.read_after(0)]
    while pages[-1].is_cut:
        pages.append(await log.read_after(pages[-1].entries[-1].position))

    assert [len(page.entries) for page in pages] == [16, 16, 9, 0]
    assert [entry.name for page in pages for entry in page.entries] == [*map(str, range(40)), "last"]
    assert pages[-1].purged_through == 0


async def test_a_page_ends_after_500_entries_however_small(db: Settings) -> None:
    await append(*map(str, range(510)))

    first, rest = await log.read_after(0), await log.read_after(0, limit=510)

    assert (len(first.entries), first.is_cut) == (500, True)
    assert (len(rest.entries), rest.is_cut) == (510, True)
    assert not (await log.read_after(first.entries[-1].position)).is_cut


# ── cursors ──
async def test_the_head_of_an_empty_log_is_a_cursor_to_go_on_from(db: Settings) -> None:
    head = await log.head()
    await append("a")

    assert await log.check_cursor(str(head)) == 0
    assert [entry.name for entry in (await log.read_after(0)).entries] == ["a"]


async def test_the_head_of_a_product_is_its_last_entry(db: Settings) -> None:
    (first,) = await append("a")
    (other,) = await append("b", product_number=2000)

    assert await log.head(PRODUCT) == first.cursor
    assert await log.head() == other.cursor


async def test_a_cursor_of_another_product_is_refused(db: Settings) -> None:
    (entry,) = await append("a")

    assert await log.check_cursor(str(entry.cursor), product_number=PRODUCT) == entry.position
    with pytest.raises(InvalidInput):
        await log.check_cursor(str(entry.cursor), product_number=2000)


async def test_a_cursor_of_another_life_of_the_database_is_a_gap(db: Settings) -> None:
    first, second = await append("a", "b")
    past_the_end = Cursor(first.epoch, second.position + 1, 5)
    other_tag = Cursor(first.epoch, first.position, first.tag ^ 1)
    other_epoch = Cursor("00" * 8, first.position, first.tag)

    for cursor in (past_the_end, other_tag, other_epoch):
        assert await log.check_cursor(cursor) == Gap(GapReason.RESTORED, cursor, second.cursor)


async def test_after_a_new_epoch_every_old_cursor_is_a_gap(db: Settings) -> None:
    (entry,) = await append("a")

    await log.begin_new_epoch()

    found = await log.check_cursor(str(entry.cursor))
    assert isinstance(found, Gap)
    assert found.reason is GapReason.RESTORED
    assert await log.check_cursor(found.to) == entry.position


async def test_a_restored_dump_gives_a_gap_for_what_came_after_it(db: Settings) -> None:
    """T19, first half: the dump brings its old epoch back, so only the tag tells the two lives apart."""
    (kept,) = await append("kept")
    lost, lost_too = await append("lost", "lost too")

    await execute("DELETE FROM log_entry WHERE position > $1", [kept.position])
    await execute(
        "INSERT INTO log_entry (position, product_number, kind, name, published_at, ttl, tag) VALUES ($1, $2, 'event', 'new', $3, 60, 77)",
        [lost.position, PRODUCT, NOON],
    )

    assert await log.check_cursor(kept.cursor) == kept.position
    for cursor in (lost.cursor, lost_too.cursor):
        gap = await log.check_cursor(cursor)
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.to.position) == (GapReason.RESTORED, lost.position)


async def test_two_that_ask_first_agree_on_one_epoch(db: Settings) -> None:
    states = await asyncio.gather(*(log.state() for _ in range(10)))

    assert len({state.epoch for state in states}) == 1
    assert len(await rows("SELECT id FROM log_state")) == 1


# ── the lock ──
async def copied(*entries: log.NewEntry) -> None:
    await log.copy(entries)


async def lost_by_a_reader(publishers: int, rounds: int, *, by_copy: bool = False) -> tuple[int, int]:
    """How many entries a reader that goes on from its last position never sees, and how many it sees out of order."""
    seen: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        last = 0
        while True:
            finished = done.is_set()
            page = await log.read_after(last)
            if page.entries:
                seen.extend(entry.position for entry in page.entries)
                last = page.entries[-1].position
            elif finished:
                return
            await asyncio.sleep(0.001)

    async def publish(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(rounds):
            async with transaction():
                await asyncio.sleep(dice.uniform(0, 0.05))
                await (copied(an_event()) if by_copy and seed % 2 else log.append(an_event()))

    reader = asyncio.create_task(read())
    await asyncio.gather(*(publish(seed) for seed in range(publishers)))
    done.set()
    await reader
    return publishers * rounds - len(set(seen)), sum(a >= b for a, b in itertools.pairwise(seen))


async def test_a_reader_loses_nothing_of_fifty_publishers(postgres_db: Settings) -> None:
    """T16: transactions of 0 to 50 ms, on both roads into the log."""
    assert await lost_by_a_reader(50, 40, by_copy=True) == (0, 0)


async def test_without_the_lock_the_reader_would_lose_entries(postgres_db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above must be able to fail: without the lock an insert that is slow to commit is overtaken."""
    monkeypatch.setattr(log, "taking_turns", False)

    lost, _ = await lost_by_a_reader(50, 40)

    assert lost > 0
