"""Who is online, on which server process; and that the log is told once, however processes die and devices come and go.

What is true stands in `online`; what the log has said stands in `announced`. Where they differ, the log is told at once by the
caller, or is owed it from `announce_at` on: after the grace of a restart, or once a flapping device may speak again. The debt is
in the database, so whichever process looks next pays it.
Source: reliability, "Presence", and rule 14 of "OTA safety rules".
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from models.sql import execute, execute_many, is_sqlite, read_time, rows
from models.transaction import retrying, transaction

GRACE_S = 30.0  # devices of a process that went away in good order, or of SQLite's only one, may take this long to come back
FLAPPING = 10  # connects within an hour; with more, the device is flapping
FLAPPING_QUIET_S = 30.0  # between two entries in the log of a flapping device
PIECE = 500


class Arrival(NamedTuple):
    """A session that has begun."""

    epoch: int  # greater than that of every earlier session of the device, in whichever process
    announce: bool  # the log has to be told ONLINE, by the caller and in the same transaction
    replaced: tuple[str, int] | None  # process and epoch of a session that was still open; it is to be closed with 4409
    flapping: bool


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


async def came_online(device_id: str, process: str, ip: str | None, now: datetime) -> Arrival:
    """A device has said hello: its newest session wins. In the caller's transaction."""
    before = await _row(device_id)
    if before is None:
        await execute(
            "INSERT INTO presence (device_id, online, epoch, last_heard, last_handshake_at, connects_since, connects, announced)"
            " VALUES ($1, FALSE, 0, $2, $2, $2, 0, FALSE) ON CONFLICT (device_id) DO NOTHING",
            [device_id, now],
        )
        before = await _row(device_id)
        assert before is not None
    same_hour = now - read_time(before["connects_since"]) < timedelta(hours=1)
    connects = before["connects"] + 1 if same_hour else 1
    announcing = _announcing(before, online=True, now=now, flapping=connects > FLAPPING, grace_s=0)
    epoch = (
        await rows(
            "UPDATE presence SET online = TRUE, process = $2, epoch = epoch + 1, last_heard = $3, last_handshake_at = $3,"
            " last_ip_address = $4, connects_since = $5, connects = $6, announced = $7, announced_at = $8, announce_at = $9"
            " WHERE device_id = $1 RETURNING epoch",
            [device_id, process, now, ip, now if not same_hour else read_time(before["connects_since"]), connects, *announcing],
        )
    )[0]["epoch"]
    replaced = (before["process"], before["epoch"]) if before["online"] else None
    return Arrival(epoch, announcing.announced and not before["announced"], replaced, connects > FLAPPING)


async def went_offline(device_id: str, epoch: int, now: datetime, *, grace_s: float = 0) -> Departure:
    """The session `epoch` has ended. With `grace_s` the log is told only if the device is not back by then. In the caller's transaction."""
    before = await _row(device_id)
    if before is None or before["epoch"] != epoch or not before["online"]:
        return Departure(changed=False, announce=False)
    announcing = _announcing(before, online=False, now=now, flapping=_is_flapping(before, now), grace_s=grace_s)
    await execute(
        "UPDATE presence SET online = FALSE, announced = $2, announced_at = $3, announce_at = $4 WHERE device_id = $1 AND epoch = $5",
        [device_id, *announcing, epoch],
    )
    return Departure(changed=True, announce=before["announced"] and not announcing.announced)


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
    return row["connects"] > FLAPPING and now - read_time(row["connects_since"]) < timedelta(hours=1)


async def _row(device_id: str) -> dict[str, Any] | None:
    found = await rows(
        "SELECT online, process, epoch, connects_since, connects, announced, announced_at FROM presence WHERE device_id = $1 FOR UPDATE",
        [device_id],
    )
    return found[0] if found else None


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
        "UPDATE presence SET online = FALSE, announce_at = $2 WHERE process = $1 AND online",
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
        await execute(
            "UPDATE presence SET last_heard = said.at FROM unnest($1::text[], $2::timestamptz[]) AS said (device_id, at)"
            " WHERE presence.device_id = said.device_id AND presence.last_heard < said.at",
            [list(ids), list(times)],
        )
