"""The flusher: acknowledged is committed, said twice is stored once, in order of arrival, and counted in the same transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError, OperationalError

from models.sql import read_time, rows
from models.transaction import transaction
from realtime import flusher as flushing
from realtime import log, tallies
from realtime.flusher import Flusher, NotStored
from realtime.log import COPIED_FROM, NewEntry
from realtime.wakeup import LOG, Wakeup
from settings import Settings
from tests.realtime.samples import NOON, PRODUCT, a_customer, a_fleet, an_event, device_id


def said(number: int, **fields: Any) -> NewEntry:
    return an_event(**({"device_id": device_id(1), "event_key": f"e-{number}", "data": str(number)} | fields))


async def stored() -> list[str | None]:
    entries: list[log.Entry] = []
    while page := (await log.read_after(entries[-1].position if entries else 0)).entries:
        entries += page
    return [entry.data for entry in entries]


Write = Callable[[Sequence[NewEntry]], Awaitable[Any]]


def around_writes(monkeypatch: pytest.MonkeyPatch, around: Callable[[Write, Any], Awaitable[Any]]) -> None:
    """`around` is called in place of both roads into the log, with the one it stands for."""
    for road in (log.write, log.copy):
        monkeypatch.setattr(log, road.__name__, partial(around, road))


async def test_a_publish_returns_what_was_committed_and_wakes_readers_after_it(db: Settings) -> None:
    wakeup = Wakeup()
    heard: list[str | None] = []
    wakeup.listen(LOG, heard.append)
    async with Flusher(wakeup) as flusher:
        entry = await flusher.publish(said(1))

    assert (await log.read_after(0)).entries == [entry]
    assert heard == [""]


async def test_publishes_are_stored_in_the_order_they_arrived(db: Settings) -> None:
    async with Flusher(Wakeup()) as flusher:
        published = [asyncio.create_task(flusher.publish(said(number))) for number in range(1200)]
        entries = await asyncio.gather(*published)

    assert await stored() == [str(number) for number in range(1200)]
    assert [entry.position for entry in entries] == sorted(entry.position for entry in entries)


async def test_what_arrives_during_a_commit_is_committed_together(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    begun, all_said = asyncio.Event(), asyncio.Event()

    async def counting(write: Write, entries: Any) -> Any:
        sizes.append(len(entries))
        begun.set()
        await all_said.wait()
        return await write(entries)

    around_writes(monkeypatch, counting)
    async with Flusher(Wakeup()) as flusher:
        published = [asyncio.create_task(flusher.publish(said(0)))]
        await begun.wait()
        published += [asyncio.create_task(flusher.publish(said(number))) for number in range(1, 701)]
        await asyncio.sleep(0)
        all_said.set()
        await asyncio.gather(*published)

    assert sizes == [1, 500, 200]


async def test_the_same_event_said_again_is_the_same_event(db: Settings) -> None:
    async with Flusher(Wakeup()) as flusher:
        first = await flusher.publish(said(1, data="as it was"))
        again = await flusher.publish(said(1, data="told differently", published_at=NOON + timedelta(seconds=9)))
        both = await asyncio.gather(flusher.publish(said(2)), flusher.publish(said(2)), flusher.publish(said(1)))

    assert again == first
    assert both[0] == both[1]
    assert both[2] == first
    assert await stored() == ["as it was", "2"]


async def test_a_crowd_that_holds_events_said_before_is_stored_once_and_in_order(db: Settings) -> None:
    numbers = [*range(200), 7, *range(200, 300), 150]
    async with Flusher(Wakeup()) as flusher:
        first = await asyncio.gather(*(flusher.publish(said(number)) for number in (50, 250)))
        entries = await asyncio.gather(*(flusher.publish(said(number)) for number in numbers))
        after = await asyncio.gather(*(flusher.publish(said(number)) for number in range(300, 400)))

    assert await stored() == [str(number) for number in (50, 250, *(each for each in range(400) if each not in (50, 250)))]
    assert [entries[50], entries[numbers.index(250)]] == first
    assert [entries[200], entries[-1]] == [entries[7], entries[150]]
    assert (await log.read_after(entries[numbers.index(299)].position)).entries == after


async def test_what_is_copied_is_what_is_written(postgres_db: Settings) -> None:
    events = [said(number, device_time=NOON, ttl=number, firmware_version=3) for number in range(COPIED_FROM)]
    others = [said(number, data=None, event_key=None, device_id=None) for number in range(COPIED_FROM)]
    async with transaction():
        copied = [*await log.copy(events), *await log.copy(others)]
    async with transaction():
        written = await log.write([an_event()])

    assert (await log.read_after(0)).entries == [each.entry for each in (*copied, *written)]
    assert all(each.fresh for each in copied)
    with pytest.raises(IntegrityError):
        async with transaction():
            await log.copy([said(99), said(0)])
    with pytest.raises(ValueError, match="zone"):
        async with transaction():
            await log.copy([said(99, published_at=NOON.replace(tzinfo=None))])
    assert len((await log.read_after(0)).entries) == 2 * COPIED_FROM + 1


async def test_the_same_key_of_another_device_and_no_key_are_other_events(db: Settings) -> None:
    async with Flusher(Wakeup()) as flusher:
        await asyncio.gather(
            flusher.publish(said(1, data="a")),
            flusher.publish(said(1, data="b", device_id=device_id(2))),
            flusher.publish(said(1, data="c", event_key=None)),
            flusher.publish(said(1, data="d", event_key=None)),
        )

    assert await stored() == ["a", "b", "c", "d"]


async def test_two_processes_store_the_same_event_once(postgres_db: Settings) -> None:
    async with Flusher(Wakeup()) as one, Flusher(Wakeup()) as other:
        pairs = await asyncio.gather(*(each.publish(said(number)) for number in range(300) for each in (one, other)))

    assert len(await stored()) == 300
    assert pairs[::2] == pairs[1::2]


@pytest.mark.parametrize("poison", ["nul \x00", "half a pair \ud800"])
async def test_an_event_the_database_refuses_takes_no_other_along(postgres_db: Settings, poison: str) -> None:
    async with Flusher(Wakeup()) as flusher:
        outcomes = await asyncio.gather(
            *(flusher.publish(said(number, data=poison if number == 37 else str(number))) for number in range(100)),
            return_exceptions=True,
        )

    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [37]
    assert isinstance(outcomes[37], NotStored)
    assert await stored() == [str(number) for number in range(100) if number != 37]


async def test_what_was_not_committed_is_not_acknowledged(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(entries: Any) -> None:
        raise OperationalError("the disk is full")

    async with Flusher(Wakeup()) as flusher:
        with monkeypatch.context() as patched:
            patched.setattr(tallies, "count", fail)  # after the insert, before the commit
            with pytest.raises(NotStored):
                await flusher.publish(said(1, name="error"))
        assert await stored() == []

        await flusher.publish(said(1, name="error"))

    assert await stored() == ["1"]


async def test_a_failing_database_fails_its_batch_and_the_next_one_has_its_chance(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def fail_once(write: Write, entries: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionResetError("gone")
        return await write(entries)

    around_writes(monkeypatch, fail_once)
    async with Flusher(Wakeup()) as flusher:
        outcomes = await asyncio.gather(*(flusher.publish(said(number)) for number in range(10)), return_exceptions=True)
        after = await flusher.publish(said(3))

    assert all(isinstance(outcome, NotStored) for outcome in outcomes)
    assert after.data == "3"
    assert await stored() == ["3"]


async def test_a_full_flusher_makes_publishers_wait_in_their_order(db: Settings) -> None:
    async with Flusher(Wakeup(), waiting=3) as flusher:
        published = [asyncio.create_task(flusher.publish(said(number))) for number in range(20)]
        await asyncio.sleep(0)
        assert len(flusher._queue) <= 3
        await asyncio.gather(*published)

    assert await stored() == [str(number) for number in range(20)]


async def test_a_publisher_who_goes_away_disturbs_nobody(db: Settings) -> None:
    async with Flusher(Wakeup()) as flusher:
        gone = asyncio.create_task(flusher.publish(said(1)))
        await asyncio.sleep(0)
        gone.cancel()
        await flusher.publish(said(2))

    assert "2" in await stored()


async def test_closing_commits_what_is_inside_and_takes_nothing_more(db: Settings) -> None:
    flusher = Flusher(Wakeup())
    async with flusher:
        published = [asyncio.create_task(flusher.publish(said(number))) for number in range(700)]
        await asyncio.sleep(0)

    assert len(await asyncio.gather(*published)) == 700
    assert len(await stored()) == 700
    with pytest.raises(NotStored):
        await flusher.publish(said(701))
    assert len(await stored()) == 700


async def test_closing_while_the_database_is_away_gives_the_rest_up(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def fail(write: Write, entries: Any) -> None:
        nonlocal calls
        calls += 1
        raise ConnectionResetError("gone")

    around_writes(monkeypatch, fail)
    async with Flusher(Wakeup()) as flusher:
        published = [asyncio.create_task(flusher.publish(said(number))) for number in range(3000)]
        await asyncio.sleep(0)

    outcomes = await asyncio.gather(*published, return_exceptions=True)
    assert all(isinstance(outcome, NotStored) for outcome in outcomes)
    assert calls == 1


async def test_a_deadlock_is_tried_again(postgres_db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncpg

    calls = 0

    async def deadlock_once(write: Write, entries: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncpg.DeadlockDetectedError("deadlock")
        return await write(entries)

    around_writes(monkeypatch, deadlock_once)
    async with Flusher(Wakeup()) as flusher:
        await flusher.publish(said(1))

    assert await stored() == ["1"]


# ── counters ──
async def error_rows() -> list[tuple[Any, ...]]:
    found = await rows("SELECT name, device_id, count FROM error_tally ORDER BY name, device_id")
    return [tuple(row.values()) for row in found]


async def usage_rows() -> list[tuple[Any, ...]]:
    found = await rows("SELECT product_number, events, calls FROM usage_tally ORDER BY customer_id, day")
    return [tuple(row.values()) for row in found]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("error", True), ("Error/heat", True), ("exceptional", True), ("terror", False), ("my-error", False)],
)
def test_an_error_is_an_event_whose_name_begins_so(name: str, counts: bool) -> None:
    assert tallies.is_error(name) is counts


async def test_errors_are_counted_by_day_name_and_device_and_repeats_are_not(db: Settings) -> None:
    async with Flusher(Wakeup()) as flusher:
        await asyncio.gather(
            flusher.publish(said(1, name="error/heat")),
            flusher.publish(said(1, name="error/heat")),
            flusher.publish(said(2, name="error/heat")),
            flusher.publish(said(3, name="temperature")),
        )
        await flusher.publish(said(2, name="error/heat"))
        await flusher.publish(said(4, name="error/heat", published_at=NOON + timedelta(hours=1)))
        await flusher.publish(said(5, name="exception", device_id=device_id(2)))

    assert await error_rows() == [("error/heat", device_id(1), 3), ("exception", device_id(2), 1)]
    last = (await rows("SELECT last_at FROM error_tally WHERE name = 'error/heat'"))[0]["last_at"]
    assert read_time(last) == NOON + timedelta(hours=1)


async def test_usage_counts_towards_the_owner_by_day(db: Settings) -> None:
    product = await a_fleet()
    ada, bob = await a_customer(product, "ada"), await a_customer(product, "bob")
    async with Flusher(Wakeup()) as flusher:
        await flusher.publish(said(1), owner=ada.id)
        await flusher.publish(said(1), owner=ada.id)
        await flusher.publish(said(2), owner=ada.id)
        await flusher.publish(said(3), owner=bob.id)
        await flusher.publish(said(4, published_at=NOON + timedelta(days=1)), owner=bob.id)
        await flusher.publish(said(5))
    await tallies.count_call(PRODUCT, ada.id, NOON)

    assert await usage_rows() == [(PRODUCT, 2, 1), (PRODUCT, 1, 0), (PRODUCT, 1, 0)]


async def test_an_owner_deleted_meanwhile_loses_the_count_and_not_the_event(db: Settings) -> None:
    async with Flusher(Wakeup()) as flusher:
        await flusher.publish(said(1), owner=4711)

    assert await stored() == ["1"]
    assert await usage_rows() == []


async def test_two_processes_count_the_same_rows_without_losing_any(postgres_db: Settings) -> None:
    product = await a_fleet()
    ada = await a_customer(product)
    async with Flusher(Wakeup()) as one, Flusher(Wakeup()) as other:
        await asyncio.gather(
            *(
                flusher.publish(said(0, event_key=None, name="error", device_id=device_id(number % 3 + 1)), owner=ada.id)
                for number in range(600)
                for flusher in (one, other)
            )
        )

    assert await error_rows() == [("error", device_id(number), 400) for number in (1, 2, 3)]
    assert await usage_rows() == [(PRODUCT, 1200, 0)]


def test_a_batch_is_what_a_reader_reads_at_once() -> None:
    assert flushing.BATCH == log.PAGE == 500
