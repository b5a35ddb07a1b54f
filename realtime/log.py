"""The ordered log: appended to under one lock, read after a position; history, replay and live are all this.

Positions come from a sequence that is read while the lock is held, and the lock is held to the commit: whoever sees a position
sees every lower one. On SQLite the single writer gives the same order.
Source: reliability, "Order of the log".
"""

import random
import secrets
import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
from tortoise.exceptions import BaseORMException

from errors import InvalidInput
from models.sql import copy_in, execute, is_sqlite, read_time, rows, tuples
from models.transaction import after_commit, in_transaction
from realtime import wakeup
from realtime.cursor import Cursor, Gap, GapReason, parse

PAGE = 500  # entries a statement
SQLITE_ROWS = 2_500  # in a statement, of eleven values each: some builds of SQLite take 32,766
COPIED_FROM = 16  # entries: for fewer, COPY's further round trip costs more than it saves
PAGE_BYTES = 256 << 10  # of data in them, and one entry more: what a reader that stalls holds in memory
LOCK = 0x466C6F67  # "Flog": the advisory lock of the one shard
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, BaseORMException, sqlite3.Error)  # the database is away or refuses

# Tests alone clear it, to prove that they would notice what is lost without the lock.
taking_turns = True


class NewEntry(NamedTuple):
    """What is about to be appended. Both times are aware."""

    product_number: int
    kind: str  # an EntryKind
    name: str  # of an event, or a DeviceChange
    published_at: datetime  # the server's time
    device_id: str | None = None
    data: str | None = None
    device_time: datetime | None = None
    ttl: int = 60  # seconds
    firmware_version: int | None = None
    event_key: str | None = None  # the device's own id of the event


class Entry(NamedTuple):
    """One row of the log. A named tuple: made five times faster than a frozen dataclass, and made for every row read."""

    position: int
    product_number: int
    kind: str  # an EntryKind
    name: str
    published_at: datetime
    device_id: str | None
    data: str | None
    device_time: datetime | None
    ttl: int
    firmware_version: int | None
    event_key: str | None
    tag: int
    epoch: str

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.epoch, self.position, self.tag)


class Written(NamedTuple):
    entry: Entry
    fresh: bool  # False: this device had already said this event, and `entry` is what was stored then


class Page(NamedTuple):
    """Entries in order, and how far the log had been purged when they were read: below it some may be missing."""

    entries: list[Entry]
    purged_through: int
    is_cut: bool = False  # by a bound: there may be more


class State(NamedTuple):
    epoch: str
    purged_through: int


# ── writing ──
async def append(*entries: NewEntry) -> list[Entry]:
    """Append inside the caller's transaction, as its LAST statement: from here to the commit nobody else can append.

    Readers are woken after the commit. Raises RuntimeError outside of a transaction.
    """
    if not in_transaction():
        raise RuntimeError("append() belongs to the transaction of what it reports.")
    if not entries:
        return []
    is_new = pays_to_copy(len(entries)) and all(entry.event_key is None for entry in entries)
    written = await (copy if is_new else write)(entries)
    if fresh := [each.entry for each in written if each.fresh]:
        after_commit(lambda: wakeup.appended(fresh))
    return [each.entry for each in written]


async def write(entries: Sequence[NewEntry]) -> list[Written]:
    """One insert under the log's lock, in the order given; wakes nobody. For append() and the flusher.

    Outside of a transaction, for at most PAGE entries, it is one by itself, and on PostgreSQL a single trip to the server.
    """
    entries = [_as_read(entry) for entry in entries]
    tags = _tags(len(entries))
    found = await (_insert_sqlite(entries, tags) if is_sqlite() else _insert_postgres(entries, tags))
    epoch = found[0]["epoch"] if found and found[0]["epoch"] else (await state()).epoch
    positions = {row["tag"]: row["position"] for row in found}
    said_before = [entry for entry, tag in zip(entries, tags, strict=True) if tag not in positions]
    stored = await _stored(said_before) if said_before else {}
    return [
        Written(Entry._make((positions[tag], *entry, tag, epoch)), True)
        if tag in positions
        else Written(stored[entry.device_id, entry.event_key], False)
        for entry, tag in zip(entries, tags, strict=True)
    ]


def pays_to_copy(count: int) -> bool:
    """Whether copy() stores so many entries sooner than write(), here."""
    return count >= COPIED_FROM and not is_sqlite()


async def copy(entries: Sequence[NewEntry]) -> list[Written]:
    """What write() does, by PostgreSQL's COPY: for many entries that nobody has said before. In the caller's transaction.

    Raises IntegrityError when one of them was said before: then nothing is stored, and the transaction is of no use any more.
    """
    entries = [_as_read(entry) for entry in entries]
    taken = (await rows(_TAKE if taking_turns else _TAKE_UNLOCKED, [len(entries)]))[0]
    epoch = taken["epoch"] or (await state()).epoch
    first = taken["last"] - len(entries) + 1
    tags = _tags(len(entries))
    stored = [Entry._make((position, *entry, tag, epoch)) for position, (entry, tag) in enumerate(zip(entries, tags, strict=True), first)]
    await copy_in("log_entry", Entry._fields[:-1], stored)  # all but the epoch, which is not the row's
    return [Written(entry, True) for entry in stored]


def _as_read(entry: NewEntry) -> NewEntry:
    """With its times in UTC, as they will be read again: what is appended here is told here without reading it."""
    said, device_time = entry.published_at, entry.device_time
    if said.tzinfo is UTC and (device_time is None or device_time.tzinfo is UTC):
        return entry
    if said.tzinfo is None or (device_time is not None and device_time.tzinfo is None):
        # A driver would take it for local time, and say nothing.
        raise ValueError(f"A time without a zone cannot be stored: {entry!r}.")
    return entry._replace(published_at=said.astimezone(UTC), device_time=device_time and device_time.astimezone(UTC))


def _tags(count: int) -> list[int]:
    """Random, never 0, and distinct: they also tell which rows an insert has made."""
    tags: set[int] = set()
    while len(tags) < count:
        tags.add(random.getrandbits(32) - (1 << 31) or 1)
    return list(tags)


_INTO = (
    "INSERT INTO log_entry (product_number, kind, name, published_at, device_id, data, device_time, ttl, firmware_version, event_key, tag)"
)
_ONCE = "ON CONFLICT (device_id, event_key) DO NOTHING RETURNING position, tag, (SELECT epoch FROM log_state) AS epoch"

# The rows are joined to the lock, so none gets its position before the lock is held, and none is sent before that either.
_POSTGRES = f"""
    {{turn}}
    {_INTO}
    SELECT product_number, kind, name, published_at, device_id, data, device_time, ttl, firmware_version, event_key, tag
      FROM turn, unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::timestamptz[], $8::int[],
                        $9::int[], $10::text[], $11::int[])
           WITH ORDINALITY AS said (product_number, kind, name, published_at, device_id, data, device_time, ttl, firmware_version,
                                    event_key, tag, place)
     ORDER BY place
    {_ONCE}"""
_TURN = f"WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({LOCK}))"
_NO_TURN = "WITH turn AS (SELECT 1)"
_LOCKED, _UNLOCKED = _POSTGRES.format(turn=_TURN), _POSTGRES.format(turn=_NO_TURN)

# The lock, and then as many positions as there are entries: nobody else takes one before the commit.
_RESERVE = """
    {turn}
    SELECT setval(name, nextval(name) + $1::int - 1) AS last, (SELECT epoch FROM log_state) AS epoch
      FROM turn, (SELECT pg_get_serial_sequence('log_entry', 'position')::regclass) AS sequence (name)"""
_TAKE, _TAKE_UNLOCKED = _RESERVE.format(turn=_TURN), _RESERVE.format(turn=_NO_TURN)


async def _insert_postgres(entries: Sequence[NewEntry], tags: Sequence[int]) -> list[dict[str, Any]]:
    return await rows(_LOCKED if taking_turns else _UNLOCKED, [*map(list, zip(*entries, strict=True)), tags])


async def _insert_sqlite(entries: Sequence[NewEntry], tags: Sequence[int]) -> list[dict[str, Any]]:
    row = f"({', '.join('?' * 11)})"
    records = [(*entry, tag) for entry, tag in zip(entries, tags, strict=True)]
    found: list[dict[str, Any]] = []
    for start in range(0, len(records), SQLITE_ROWS):
        piece = records[start : start + SQLITE_ROWS]
        values = [value for record in piece for value in record]
        found += await rows(f"{_INTO} VALUES {', '.join([row] * len(piece))} {_ONCE}", values)
    return found


COLUMNS = """position, product_number, kind, name, published_at, device_id, data, device_time, ttl, firmware_version, event_key, tag,
              (SELECT epoch FROM log_state) AS epoch"""


async def _stored(entries: Sequence[NewEntry]) -> dict[tuple[str | None, str | None], Entry]:
    found = await tuples(
        f"SELECT {COLUMNS} FROM log_entry WHERE device_id = ANY($1) AND event_key = ANY($2)",
        [[entry.device_id for entry in entries], [entry.event_key for entry in entries]],
    )
    return {(entry.device_id, entry.event_key): entry for entry in map(entry_of, found)}


# ── reading ──
async def read_after(
    position: int,
    *,
    product_numbers: Collection[int] = (),
    device_ids: Collection[str] = (),
    kinds: Collection[str] = (),
    name_prefix: str = "",
    limit: int = PAGE,
) -> Page:
    """The next entries after `position`, oldest first: of any of the products or devices, or of all when none is named.

    At most `limit`, and no more once they have PAGE_BYTES of data: the database counts them, so that what is not taken never comes here.
    """
    where = Where("position > {}", position)
    if product_numbers or device_ids:
        where.any_of(("product_number", list(product_numbers)), ("device_id", list(device_ids)))
    where.common(kinds, name_prefix)
    size = "length(CAST(data AS blob))" if is_sqlite() else "octet_length(data)"
    found = await tuples(
        f"""SELECT {COLUMNS}, (SELECT purged_through FROM log_state), through
              FROM (SELECT page.*, sum(coalesce({size}, 0)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS through
                      FROM (SELECT * FROM log_entry WHERE {where} ORDER BY position LIMIT {int(limit)}) AS page) AS counted
             WHERE through - coalesce({size}, 0) < {PAGE_BYTES}
             ORDER BY position""",
        where.values,
    )
    if not found:
        return Page([], (await state()).purged_through)
    *_, purged_through, through = found[-1]
    return Page([entry_of(row) for row in found], purged_through, len(found) >= limit or through >= PAGE_BYTES)


def one_page(entries: list[Entry]) -> list[Entry]:
    """As many of these as a page may hold."""
    size = 0
    for count, entry in enumerate(entries[:PAGE], 1):
        size += len(entry.data or "")
        if size >= PAGE_BYTES:
            return entries[:count]
    return entries[:PAGE]


async def head(product_number: int | None = None, *, through: int | None = None) -> Cursor:
    """The end of the log, or of one product's part of it: everything committed so far is at it or before it.

    With `through` what comes behind that position is left out.
    """
    where = Where("product_number = {}", product_number) if product_number is not None else Where("1 = 1")
    if through is not None:
        where.add("position <= {}", through)
    found = await rows(
        f"SELECT position, tag, (SELECT epoch FROM log_state) AS epoch FROM log_entry WHERE {where} ORDER BY position DESC LIMIT 1",
        where.values,
    )
    if found:
        return Cursor(found[0]["epoch"], found[0]["position"], found[0]["tag"])
    now = await state()
    return Cursor(now.epoch, now.purged_through, 0)


async def check_cursor(cursor: str | Cursor, *, product_number: int | None = None) -> int | Gap:
    """The position to go on from, or the gap the stream must begin with.

    Raises InvalidInput for what is no cursor, or one of another product than `product_number`.
    """
    at = parse(cursor) if isinstance(cursor, str) else cursor
    # The entry is read first: one that is purged between the two statements is then a gap of retention, not a restored database.
    found = await rows("SELECT tag, product_number FROM log_entry WHERE position = $1", [at.position])
    now = await state()
    same_life = at.epoch == now.epoch and (found[0]["tag"] == at.tag if found else at.position <= now.purged_through)
    if not same_life:
        return Gap(GapReason.RESTORED, at, await head(product_number))
    if found and product_number is not None and found[0]["product_number"] != product_number:
        raise InvalidInput("This cursor belongs to another product.")
    if at.position < now.purged_through:
        return Gap(GapReason.RETENTION, at, Cursor(now.epoch, now.purged_through, 0))
    return at.position


async def state() -> State:
    """Which life of the database this is, and how far its log is purged; the row is made at first use."""
    query = "SELECT epoch, purged_through FROM log_state WHERE id = 1"
    found = await rows(query)
    if not found:
        await execute(
            "INSERT INTO log_state (id, epoch, purged_through) VALUES (1, $1, 0) ON CONFLICT (id) DO NOTHING", [secrets.token_hex(8)]
        )
        found = await rows(query)
    return State(**found[0])


async def begin_new_epoch() -> None:
    """To be called after a database was restored: every cursor of before then gets a gap with RESTORED."""
    await state()
    await execute("UPDATE log_state SET epoch = $1 WHERE id = 1", [secrets.token_hex(8)])


class Where:
    """Conditions joined by AND, with `{}` for each value in turn."""

    def __init__(self, condition: str, *values: Any) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []
        self.add(condition, *values)

    def add(self, condition: str, *values: Any) -> None:
        first = len(self.values) + 1
        self._conditions.append(condition.format(*(f"${first + n}" for n in range(len(values)))))
        self.values.extend(values)

    def any_of(self, *columns: tuple[str, list[Any]]) -> None:
        """`=` for a single value: only then an index gives the rows in order."""
        terms = [
            (f"{column} = {{}}", values[0]) if len(values) == 1 else (f"{column} = ANY({{}})", values)
            for column, values in columns
            if values
        ]
        self.add(f"({' OR '.join(term for term, _ in terms)})", *(value for _, value in terms))

    def common(self, kinds: Collection[str], name_prefix: str) -> None:
        """Both filters of subscriptions and history. The prefix is literal and case-sensitive, which LIKE is not on SQLite."""
        if kinds:
            self.any_of(("kind", [str(kind) for kind in kinds]))
        if name_prefix:
            self.add("substr(name, 1, {}) = {}", len(name_prefix), name_prefix)

    def __str__(self) -> str:
        return " AND ".join(self._conditions)


def entry_of(row: Sequence[Any]) -> Entry:
    """Of a row that begins with COLUMNS."""
    entry = Entry._make(row[: len(Entry._fields)])
    if isinstance(entry.published_at, str):  # SQLite
        return entry._replace(published_at=read_time(entry.published_at), device_time=entry.device_time and read_time(entry.device_time))
    return entry
