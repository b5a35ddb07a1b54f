"""Presence: the newest session wins, a late goodbye changes nothing, and the log is told once."""

import asyncio
import itertools
import random
from datetime import datetime, timedelta
from typing import Any

from models.device import Device
from models.sql import execute, read_time, rows
from models.transaction import transaction
from realtime import presence
from realtime.presence import Arrival, Departure, Leaving
from settings import Settings
from tests.realtime.samples import NOON, PRODUCT, a_fleet, device_id

ONE = device_id(1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def online(process: str = "p1", *, when: datetime = NOON, device: str = ONE) -> Arrival:
    async with transaction():
        return (await presence.came_online({device: "192.0.2.7"}, process, when))[device]


async def offline(epoch: int, *, when: datetime = NOON, device: str = ONE, grace_s: float = 0) -> Departure:
    async with transaction():
        return (await presence.went_offline([Leaving(device, epoch, grace_s)], when))[device]


async def due(when: datetime) -> list[tuple[str, bool]]:
    async with transaction():
        return [(each.device_id, each.online) for each in await presence.take_due(when)]


async def row(device: str = ONE) -> dict[str, Any]:
    return (await rows("SELECT * FROM presence WHERE device_id = $1", [device]))[0]


async def test_a_first_arrival_is_announced_and_written(db: Settings) -> None:
    await a_fleet()

    arrival = await online()

    assert arrival == Arrival(epoch=1, announce=True, replaced=None, flapping=False)
    stored = await row()
    assert (bool(stored["online"]), stored["process"], stored["last_ip_address"]) == (True, "p1", "192.0.2.7")
    assert read_time(stored["last_heard"]) == read_time(stored["last_handshake_at"]) == NOON
    assert await due(at(1000)) == []


async def test_a_goodbye_is_announced_once(db: Settings) -> None:
    await a_fleet()
    arrival = await online()

    assert await offline(arrival.epoch) == Departure(changed=True, announce=True)
    assert await offline(arrival.epoch) == Departure(changed=False, announce=False)
    assert not (await row())["online"]


async def test_a_device_never_seen_has_nothing_to_end(db: Settings) -> None:
    await a_fleet()

    assert await offline(1) == Departure(changed=False, announce=False)


async def test_the_newer_session_wins_and_the_older_goodbye_changes_nothing(db: Settings) -> None:
    """T18: two sessions alternating, 100 times; never offline while the newer one lives."""
    await a_fleet()
    last = await online("p0")
    for number in range(1, 100):
        newer = await online(f"p{number % 2}", when=at(number))
        assert newer.epoch == last.epoch + 1
        assert newer.replaced == (f"p{(number - 1) % 2}", last.epoch)
        assert not newer.announce
        assert await offline(last.epoch, when=at(number)) == Departure(changed=False, announce=False)
        assert (await row())["online"]
        last = newer

    assert (await offline(last.epoch, when=at(5000))).changed


async def test_epochs_grow_through_restarts(db: Settings) -> None:
    await a_fleet()
    epochs = []
    for number in range(3):
        epochs.append((await online(f"p{number}")).epoch)
        await offline(epochs[-1])

    assert epochs == [1, 2, 3]


async def test_racing_sessions_get_different_epochs_and_the_highest_is_the_one(postgres_db: Settings) -> None:
    await a_fleet()
    for last in (0, 30, 60):  # never seen at first, then known and offline
        arrivals = await asyncio.gather(*(online(f"p{number}", when=at(last * 4000)) for number in range(30)))

        assert sorted(arrival.epoch for arrival in arrivals) == list(range(last + 1, last + 31))
        assert sum(arrival.announce for arrival in arrivals) == 1
        assert sum(arrival.replaced is None for arrival in arrivals) == 1
        newest = max(range(30), key=lambda number: arrivals[number].epoch)
        assert ((await row())["process"], (await row())["epoch"]) == (f"p{newest}", last + 30)
        assert (await offline(last + 30, when=at(last * 4000))).changed
        await due(at(last * 4000 + 60))


async def test_arrivals_and_goodbyes_in_any_order_end_in_the_truth_told_once(postgres_db: Settings) -> None:
    """What the log was told must alternate, and end with what is true."""
    await a_fleet(1)
    told: list[bool] = []
    dice = random.Random(3)

    async def session(number: int) -> None:
        await asyncio.sleep(dice.uniform(0, 0.3))
        async with transaction():
            arrival = (await presence.came_online({ONE: None}, f"p{number}", NOON))[ONE]
            if arrival.announce:
                told.append(True)
        await asyncio.sleep(dice.uniform(0, 0.05))
        async with transaction():
            if (await presence.went_offline([Leaving(ONE, arrival.epoch)], NOON))[ONE].announce:
                told.append(False)

    await asyncio.gather(*(session(number) for number in range(10)))

    assert told == [True, False] * (len(told) // 2)
    assert not (await row())["online"]


# ── coming back ──
async def test_a_device_that_is_back_within_its_grace_is_not_announced_at_all(db: Settings) -> None:
    await a_fleet()
    first = await online("p1")

    assert await offline(first.epoch, when=at(0), grace_s=30) == Departure(changed=True, announce=False)
    back = await online("p2", when=at(29))

    assert not back.announce
    assert await due(at(1000)) == []


async def test_a_device_that_is_not_back_is_announced_after_its_grace(db: Settings) -> None:
    await a_fleet()
    first = await online()
    await offline(first.epoch, when=at(0), grace_s=30)

    assert await due(at(29.9)) == []
    assert await due(at(30)) == [(ONE, False)]
    assert await due(at(31)) == []
    assert (await online("p2", when=at(40))).announce


async def test_what_is_owed_says_the_product_and_when_the_device_was_last_heard(db: Settings) -> None:
    await a_fleet()
    await Device.create(device_id=device_id(9), created_at=NOON)
    for device in (ONE, device_id(9)):
        await online(device=device)

    await presence.release("p1", at(5))
    async with transaction():
        found = await presence.take_due(at(5))

    assert [(each.device_id, each.product_number, each.online, each.since) for each in found] == [
        (ONE, PRODUCT, False, NOON),
        (device_id(9), None, False, NOON),
    ]


# ── flapping ──
async def test_more_than_ten_connects_an_hour_are_flapping(db: Settings) -> None:
    await a_fleet()

    arrivals = []
    for number in range(12):
        arrivals.append(await online(when=at(number * 60)))
        await offline(arrivals[-1].epoch, when=at(number * 60 + 30))
    later = await online(when=at(3601))

    assert [arrival.flapping for arrival in arrivals] == [False] * 10 + [True] * 2
    assert not later.flapping


async def test_a_flapping_device_is_announced_at_most_every_thirty_seconds_and_the_last_state_always(db: Settings) -> None:
    """R14: 100 flaps, one a second."""
    await a_fleet()
    told: list[tuple[float, bool]] = []

    async def pay(second: float) -> None:
        told.extend((second, state) for _, state in await due(at(second)))

    for flap in range(100):
        arrival = await online(when=at(flap))
        told += [(flap, True)] if arrival.announce else []
        await pay(flap + 0.25)
        departure = await offline(arrival.epoch, when=at(flap + 0.5))
        told += [(flap + 0.5, False)] if departure.announce else []
        await pay(flap + 0.75)
    for second in range(100, 140):
        await pay(second)

    assert [state for _, state in told] == [True, False] * (len(told) // 2)
    assert told[-1][1] is False
    quiet = [second for second, _ in told if second >= 10]
    assert len(quiet) <= 5
    assert all(later - earlier >= 29.5 for earlier, later in itertools.pairwise(quiet))


# ── processes ──
async def test_the_devices_of_a_process_are_released_and_those_elsewhere_are_not(db: Settings) -> None:
    await a_fleet(3)
    await online("dead", device=device_id(1))
    await online("dead", device=device_id(2))
    await online("alive", device=device_id(2))
    await online("alive", device=device_id(3))

    assert await presence.release("dead", at(10)) == 1

    assert await due(at(10)) == [(device_id(1), False)]
    assert [bool((await row(device_id(number)))["online"]) for number in (1, 2, 3)] == [False, True, True]


async def test_devices_that_come_back_while_their_process_is_released_stay_online(postgres_db: Settings) -> None:
    await a_fleet(200)
    for number in range(1, 201):
        await online("dead", device=device_id(number))

    # Only a process that runs can take devices back: one without a row is an orphan itself.
    await execute("INSERT INTO server_process (id, started_at, beat, draining) VALUES ($1, $2, 0, FALSE)", ["alive", NOON])

    async def come_back(number: int) -> None:
        await asyncio.sleep(random.Random(number).uniform(0, 0.05))
        await online("alive", device=device_id(number))

    await asyncio.gather(
        *(come_back(number) for number in range(1, 101)),
        *(presence.release("dead", NOON) for _ in range(5)),
        presence.release_orphans(NOON),
    )

    states = await rows("SELECT process, online, count(*) AS devices FROM presence GROUP BY process, online ORDER BY process")
    assert [tuple(each.values()) for each in states] == [("alive", True, 100), ("dead", False, 100)]


async def test_what_is_owed_is_paid_once_however_many_look(postgres_db: Settings) -> None:
    await a_fleet(300)
    for number in range(1, 301):
        await online("dead", device=device_id(number))
    await presence.release("dead", NOON)

    paid = await asyncio.gather(*(due(NOON) for _ in range(8)))

    assert sorted(device for each in paid for device, _ in each) == [device_id(number) for number in range(1, 301)]


async def test_a_payment_that_is_rolled_back_is_still_owed(db: Settings) -> None:
    await a_fleet()
    await online()
    await presence.release("p1", NOON)

    async def pay_and_fail() -> None:
        async with transaction():
            assert len(await presence.take_due(NOON)) == 1
            raise ZeroDivisionError

    assert isinstance((await asyncio.gather(pay_and_fail(), return_exceptions=True))[0], ZeroDivisionError)
    assert await due(NOON) == [(ONE, False)]


# ── heard ──
async def test_what_was_heard_is_written_in_pieces_and_never_backwards(db: Settings) -> None:
    await a_fleet(3)
    for number in (1, 2):
        await online(device=device_id(number), when=at(10))
    heard = presence.Heard()
    heard.note(device_id(1), at(11))
    heard.note(device_id(1), at(20))
    heard.note(device_id(2), at(5))
    heard.note(device_id(3), at(30))

    assert await heard.flush() == 3
    assert await heard.flush() == 0

    assert [read_time((await row(device_id(number)))["last_heard"]) for number in (1, 2)] == [at(20), at(10)]


async def test_what_could_not_be_written_is_kept(db: Settings, monkeypatch: Any) -> None:
    await a_fleet(1)
    await online(when=at(0))
    heard = presence.Heard()
    heard.note(ONE, at(20))

    async def fail(records: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(presence, "_write_heard", fail)
        assert isinstance((await asyncio.gather(heard.flush(), return_exceptions=True))[0], ConnectionResetError)
    assert await heard.flush() == 1
    assert read_time((await row())["last_heard"]) == at(20)
