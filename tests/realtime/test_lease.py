"""The lease: whoever stands still is dead, once; whoever sleeps or loses the database takes nobody down."""

import asyncio
import dataclasses
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.log import EntryKind
from models.sql import execute, read_time, rows
from models.transaction import transaction
from realtime import lease as leasing
from realtime import log, presence
from realtime.lease import Lease, Watch, bury
from realtime.log import NewEntry
from settings import Settings
from tests.realtime.samples import NOON, a_fleet, device_id, until


async def pay(now: datetime) -> None:
    """What the verb in the room above does."""
    async with transaction():
        entries = [
            NewEntry(each.product_number, EntryKind.STATUS, "ONLINE" if each.online else "OFFLINE", now, each.device_id)
            for each in await presence.take_due(now)
            if each.product_number is not None
        ]
        await log.append(*entries)


def a_lease(process: str, settings: Settings, lost: Any = lambda: None) -> Lease:
    return Lease(process, dataclasses.replace(settings, beat_s=0.1, dead_after_s=0.6), tell=pay, lost=lost)


async def told() -> list[tuple[str, str | None]]:
    return [(entry.name, entry.device_id) for entry in (await log.read_after(0)).entries]


async def processes() -> list[str]:
    return [row["id"] for row in await rows("SELECT id FROM server_process ORDER BY id")]


# ── the watch ──
def test_a_beat_that_stands_still_for_thirty_watched_seconds_is_dead() -> None:
    watch = Watch(30)

    assert [second for second in range(40) if watch.look({"a": 7, "b": second}, float(second))] == list(range(30, 40))


def test_a_beat_that_moves_begins_anew() -> None:
    watch = Watch(30)

    for second in range(100):
        assert watch.look({"a": second // 25}, float(second)) == []


def test_time_in_which_nothing_could_be_read_does_not_count() -> None:
    """The database was away for ten minutes, or this process was stopped: the others could not beat either."""
    watch = Watch(30)
    for second in range(10):
        watch.look({"a": 1}, float(second))

    assert watch.look({"a": 1}, 600.0) == []
    assert watch.look({"a": 2}, 601.0) == []
    assert [second for second in range(602, 640) if watch.look({"a": 2}, float(second))] == list(range(631, 640))


def test_a_process_that_has_gone_is_forgotten() -> None:
    watch = Watch(2)
    for second in range(2):
        watch.look({"a": 1}, float(second))
    watch.look({}, 2.0)

    assert watch.look({"a": 1}, 3.0) == []


def test_random_stops_never_make_a_living_process_dead() -> None:
    """Whatever the watcher's own pauses: a process that beats between any two looks is alive."""
    dice = random.Random(5)
    watch, now = Watch(30), 0.0
    for beat in range(2000):
        now += dice.choice([0.1, 1.0, 3.0, 500.0])
        assert watch.look({"a": beat // 10}, now) == []


# ── the lease ──
async def test_a_process_that_dies_takes_its_devices_offline_once(postgres_db: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(leasing, "LOOK_S", 0.05)
    await a_fleet(2)
    await execute("INSERT INTO server_process (id, started_at, beat, draining) VALUES ('dead', $1, 5, FALSE)", [NOON])
    for number in (1, 2):
        async with transaction():
            await presence.came_online({device_id(number): None}, "dead", NOON)
    async with transaction():
        await presence.came_online({device_id(2): None}, "p1", NOON)  # one came back elsewhere

    async with a_lease("p1", postgres_db), a_lease("p2", postgres_db), a_lease("p3", postgres_db):
        await until(told)
        await asyncio.sleep(0.3)
        assert await processes() == ["p1", "p2", "p3"]

    assert await told() == [("OFFLINE", device_id(1))]


async def test_living_processes_leave_each_other_alone(postgres_db: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(leasing, "LOOK_S", 0.05)
    async with a_lease("p1", postgres_db), a_lease("p2", postgres_db):
        await asyncio.sleep(1.5)

        assert await processes() == ["p1", "p2"]


async def test_a_process_that_was_declared_dead_learns_it_and_starts_anew(postgres_db: Settings, monkeypatch: Any) -> None:
    """T4: it was stopped for too long; its sessions are to be closed, for their devices are offline by now."""
    monkeypatch.setattr(leasing, "LOOK_S", 0.05)
    lost: list[bool] = []

    async def buried() -> bool:
        return await bury("p1", (await rows("SELECT beat FROM server_process"))[0]["beat"], NOON)

    async with a_lease("p1", postgres_db, lambda: lost.append(True)):
        await until(buried)  # it may beat between the two statements

        await until(lambda: lost)
        assert await processes() == ["p1"]
        await asyncio.sleep(0.3)

    assert lost == [True]


async def test_a_process_that_beat_again_is_not_buried(db: Settings) -> None:
    await a_fleet(1)
    await execute("INSERT INTO server_process (id, started_at, beat, draining) VALUES ('p1', $1, 6, FALSE)", [NOON])
    async with transaction():
        await presence.came_online({device_id(1): None}, "p1", NOON)

    assert not await bury("p1", 5, NOON)
    assert (await rows("SELECT online FROM presence"))[0]["online"]
    assert await bury("p1", 6, NOON)
    assert not await bury("p1", 6, NOON)


async def test_a_process_that_ends_in_good_order_gives_its_devices_time(db: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(leasing, "LOOK_S", 0.05)
    await a_fleet(1)
    async with a_lease("p1", db) as lease:
        async with transaction():
            await presence.came_online({device_id(1): None}, "p1", datetime.now(UTC))
        await lease.drain()
        assert (await rows("SELECT draining FROM server_process WHERE id = 'p1'"))[0]["draining"]

    assert await processes() == []
    assert await told() == []
    async with a_lease("p2", db):
        async with transaction():
            assert not (await presence.came_online({device_id(1): None}, "p2", datetime.now(UTC)))[device_id(1)].announce
        await asyncio.sleep(0.2)
    assert await told() == []


async def test_after_a_crash_devices_have_thirty_seconds_to_come_back(sqlite_db: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(leasing, "LOOK_S", 0.05)
    await a_fleet(2)
    await execute("INSERT INTO server_process (id, started_at, beat, draining) VALUES ('crashed', $1, 5, FALSE)", [NOON])
    for number in (1, 2):
        async with transaction():
            await presence.came_online({device_id(number): None}, "crashed", NOON)

    async with a_lease("p1", sqlite_db):
        assert await processes() == ["p1"]
        async with transaction():
            assert not (await presence.came_online({device_id(1): None}, "p1", datetime.now(UTC)))[device_id(1)].announce
        await asyncio.sleep(0.2)
        assert await told() == []
        await _let_pass(presence.GRACE_S)
        await until(told)

        assert await told() == [("OFFLINE", device_id(2))]


async def _let_pass(seconds: float) -> None:
    for owed in await rows("SELECT device_id, announce_at FROM presence WHERE announce_at IS NOT NULL"):
        due = read_time(owed["announce_at"]) - timedelta(seconds=seconds)
        await execute("UPDATE presence SET announce_at = $2 WHERE device_id = $1", [owed["device_id"], due])


async def test_the_lease_outlives_a_database_that_is_away(postgres_db: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(leasing, "LOOK_S", 0.05)
    async with a_lease("p1", postgres_db):

        async def fail(*args: object) -> None:
            raise ConnectionResetError("gone")

        with monkeypatch.context() as patched:
            patched.setattr(leasing, "rows", fail)
            await asyncio.sleep(0.3)
        before = (await rows("SELECT beat FROM server_process"))[0]["beat"]

        async def beats_again() -> bool:
            return bool((await rows("SELECT beat FROM server_process"))[0]["beat"] > before)

        assert await until(beats_again)


async def test_a_process_that_cannot_say_that_it_ends_ends_all_the_same(db: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise ConnectionRefusedError

    async with a_lease("a", db) as lease:
        with monkeypatch.context() as without:
            without.setattr(leasing, "execute", away)
            await lease.drain()
        assert (await rows("SELECT draining FROM server_process"))[0]["draining"] in (False, 0)
        await lease.drain()
        assert (await rows("SELECT draining FROM server_process"))[0]["draining"] in (True, 1)
