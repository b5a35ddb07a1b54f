"""Who is online, on which server process; and that the log is told once, however processes die and devices come and go.

What is true stands in `online`; what the log has said stands in `announced`. Where they differ, the log is told at once by the
caller, or is owed it from `announce_at` on: after the grace of a restart, or once a flapping device may speak again. The debt is
in the database, so whichever process looks next pays it.
Source: reliability, "Presence", and rule 14 of "OTA safety rules".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import msgspec

from models.device import FLAPPING, is_flapping
from models.sql import execute, execute_many, is_sqlite, read_time, rows
from models.transaction import retrying, transaction

GRACE_S = 30.0  # devices of a process that went away in good order, or of SQLite's only one, may take this long to come back
FLAPPING_QUIET_S = 30.0  # between two entries in the log of a flapping device
PIECE = 500


class Arrival(NamedTuple):
    """A session that has begun."""

    epoch: int  # greater than that of every earlier session of the device, in whichever process
    announce: bool  # the log has to be told ONLINE, by the caller and in the same transaction
    replaced: tuple[str, int] | None  # process and epoch of a session that was still open; it is to be closed with 4409
    flapping: bool


class Leaving(NamedTuple):
    """A session that ends. With `grace_s` the log is told only if the device is not back by then."""

    device_id: str
    epoch: int
    grace_s: float = 0.0


class Departure(NamedTuple):
    """A session that has ended. `changed` is False for one that a newer session has replaced: nothing happened then."""

    changed: bool
    announce: bool  # the log has to be told OFFLINE, by the caller and in the same transaction


class Due(NamedTuple):
    """What the log is owed about a device."""

    device_id: str
    product_number: int | None  # None: it belongs to no product, and no log is owed anything
    online: bool
    since: datetime


async def came_online(addresses: Mapping[str, str | None], process: str, now: datetime) -> dict[str, Arrival]:
    """Devices have said hello, each from its address: the newest session of each wins. In the caller's transaction."""
    before = await _held(addresses)
    if unseen := [device_id for device_id in addresses if device_id not in before]:
        await _begin(unseen, now)
        before |= await _held(unseen)
    records, arrivals = [], {}
    for device_id, address in addresses.items():
        was = before[device_id]
        since = read_time(was["connects_since"])
        same_hour = now - since < timedelta(hours=1)
        connects = was["connects"] + 1 if same_hour else 1
        announcing = _announcing(was, online=True, now=now, flapping=connects > FLAPPING, grace_s=0)
        records.append((device_id, address, since if same_hour else now, connects, *announcing))
        replaced = (was["process"], was["epoch"]) if was["online"] else None
        announce = announcing.announced and not was["announced"]
        arrivals[device_id] = Arrival(was["epoch"] + 1, announce, replaced, connects > FLAPPING)
    await _write(_ARRIVED, records, process, now)
    return arrivals


async def went_offline(leaving: Iterable[Leaving], now: datetime) -> dict[str, Departure]:
    """Sessions have ended, at most one of each device. In the caller's transaction."""
    ending = {each.device_id: each for each in leaving}
    before = await _held(ending)
    records, departures = [], dict.fromkeys(ending, Departure(changed=False, announce=False))
    for device_id, (_, epoch, grace_s) in ending.items():
        was = before.get(device_id)
        if was is None or was["epoch"] != epoch or not was["online"]:
            continue
        announcing = _announcing(was, online=False, now=now, flapping=_is_flapping(was, now), grace_s=grace_s)
        records.append((device_id, *announcing))
        departures[device_id] = Departure(changed=True, announce=was["announced"] and not announcing.announced)
    await _write(_LEFT, records)
    return departures


class _Announcing(NamedTuple):
    announced: bool
    announced_at: datetime | None
    announce_at: datetime | None


def _announcing(before: dict[str, Any], *, online: bool, now: datetime, flapping: bool, grace_s: float) -> _Announcing:
    said, said_at = bool(before["announced"]), before["announced_at"] and read_time(before["announced_at"])
    if said == online:
        return _Announcing(said, said_at, None)
    at = now + timedelta(seconds=grace_s)
    if flapping and said_at is not None:
        at = max(at, said_at + timedelta(seconds=FLAPPING_QUIET_S))
    return _Announcing(online, now, None) if at <= now else _Announcing(said, said_at, at)


def _is_flapping(row: dict[str, Any], now: datetime) -> bool:
    return is_flapping(row["connects"], read_time(row["connects_since"]), now)


async def _held(device_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows, locked in the one order in which everybody locks several of them."""
    found = await rows(
        "SELECT device_id, online, process, epoch, connects_since, connects, announced, announced_at FROM presence"
        " WHERE device_id = ANY($1) ORDER BY device_id FOR UPDATE",
        [list(device_ids)],
    )
    return {row["device_id"]: row for row in found}


async def _begin(device_ids: Iterable[str], now: datetime) -> None:
    columns = "(device_id, online, epoch, last_heard, last_handshake_at, connects_since, connects, announced)"
    once = f"INSERT INTO presence {columns} {{}} ON CONFLICT (device_id) DO NOTHING"
    if is_sqlite():
        await execute_many(once.format("VALUES ($1, FALSE, 0, $2, $2, $2, 0, FALSE)"), [(device_id, now) for device_id in device_ids])
        return
    said = "SELECT device_id, FALSE, 0, $2, $2, $2, 0, FALSE FROM unnest($1::text[]) AS said (device_id) ORDER BY device_id"
    await execute(once.format(said), [list(device_ids), now])


class _Update(NamedTuple):
    """An update of many rows. `types` are those of a record's values, the first of which is the device's id."""

    sets: str  # in terms of the columns `said`, and of $1 and $2: what is the same for all
    said: tuple[str, ...]
    types: tuple[str, ...]


_ANNOUNCING = "announced = said.announced, announced_at = said.announced_at, announce_at = said.announce_at"
_ARRIVED = _Update(
    "online = TRUE, process = $1, epoch = epoch + 1, last_heard = $2, last_handshake_at = $2, last_ip_address = said.address,"
    f" connects_since = said.since, connects = said.connects, {_ANNOUNCING}",
    ("device_id", "address", "since", "connects", "announced", "announced_at", "announce_at"),
    ("text", "text", "timestamptz", "int", "bool", "timestamptz", "timestamptz"),
)
_LEFT = _Update(
    f"online = FALSE, {_ANNOUNCING}",
    ("device_id", "announced", "announced_at", "announce_at"),
    ("text", "bool", "timestamptz", "timestamptz"),
)


async def _write(update: _Update, records: Sequence[tuple[Any, ...]], *same: Any) -> None:
    """The rows are held already. PostgreSQL reads the records out of one text: of a list asyncpg weighs every value by itself."""
    if not records:
        return
    first = len(same) + 1
    if is_sqlite():
        places = {name: f"${first + place}" for place, name in enumerate(update.said)}
        sets = re.sub(r"said\.(\w+)", lambda said: places[said[1]], update.sets)
        await execute_many(f"UPDATE presence SET {sets} WHERE device_id = {places['device_id']}", [(*same, *each) for each in records])
        return
    columns = ", ".join(map(" ".join, zip(update.said, update.types, strict=True)))
    said = msgspec.json.encode([dict(zip(update.said, each, strict=True)) for each in records]).decode()
    await execute(
        f"UPDATE presence SET {update.sets} FROM json_to_recordset(${first}::text::json) AS said ({columns})"
        " WHERE presence.device_id = said.device_id",
        [*same, said],
    )


async def take_due(now: datetime, limit: int = PIECE) -> list[Due]:
    """What the log is owed by `now`, marked as told: append it in the same transaction, which the caller has open.

    Two processes that look at once never get the same device. Empty: nothing is owed.
    """
    owed = await rows(
        "SELECT device_id, online, announced FROM presence WHERE announce_at <= $1"
        f" ORDER BY announce_at LIMIT {int(limit)} FOR UPDATE SKIP LOCKED",
        [now],
    )
    if not owed:
        return []
    ids = [row["device_id"] for row in owed]
    await execute("UPDATE presence SET announced = online, announced_at = $2, announce_at = NULL WHERE device_id = ANY($1)", [ids, now])
    wrong = [row["device_id"] for row in owed if bool(row["online"]) != bool(row["announced"])]
    found = await rows(
        "SELECT presence.device_id, product.number AS product_number, presence.online, presence.last_heard AS since FROM presence"
        " JOIN device ON device.device_id = presence.device_id LEFT JOIN product ON product.id = device.product_id"
        " WHERE presence.device_id = ANY($1) ORDER BY presence.device_id",
        [wrong],
    )
    return [Due(row["device_id"], row["product_number"], bool(row["online"]), read_time(row["since"])) for row in found]


async def release(process: str, now: datetime, *, grace_s: float = 0) -> int:
    """Every device still on `process` is offline; the log is owed it, after `grace_s`. The number of devices.

    One that came back elsewhere is on that process, and not touched.
    """
    return await execute(
        "UPDATE presence SET online = FALSE, announce_at = $2 WHERE process = $1 AND online AND device_id IN ("
        "SELECT device_id FROM presence WHERE process = $1 AND online ORDER BY device_id FOR UPDATE)",
        [process, now + timedelta(seconds=grace_s)],
    )


async def release_orphans(now: datetime, *, grace_s: float = 0) -> int:
    """The same for every process that has no row any more; run at start-up and after one was declared dead."""
    gone = await rows(
        "SELECT DISTINCT process FROM presence WHERE online AND NOT EXISTS (SELECT 1 FROM server_process WHERE id = presence.process)"
    )
    # By name, one by one: the row is looked at again when another process moves the device meanwhile.
    return sum([await release(row["process"], now, grace_s=grace_s) for row in gone])


class Heard:
    """When devices were last heard, collected and written in pieces; what is lost with the process is seconds."""

    def __init__(self) -> None:
        self._heard: dict[str, datetime] = {}

    def note(self, device_id: str, at: datetime) -> None:
        self._heard[device_id] = at

    async def flush(self) -> int:
        """Write what was collected; the number of devices. What could not be written is kept for the next time."""
        heard, self._heard = self._heard, {}
        records = sorted(heard.items())
        done = 0
        try:
            while done < len(records):
                piece = records[done : done + PIECE]
                await retrying(partial(_write_heard, piece))
                done += len(piece)
        finally:
            self._heard = dict(records[done:]) | self._heard
        return done


async def _write_heard(records: Iterable[tuple[str, datetime]]) -> None:
    async with transaction():
        if is_sqlite():
            await execute_many("UPDATE presence SET last_heard = $2 WHERE device_id = $1 AND last_heard < $2", records)
            return
        ids, times = zip(*records, strict=True)
        await _held(ids)
        await execute(
            "UPDATE presence SET last_heard = said.at FROM unnest($1::text[], $2::timestamptz[]) AS said (device_id, at)"
            " WHERE presence.device_id = said.device_id AND presence.last_heard < said.at",
            [list(ids), list(times)],
        )
