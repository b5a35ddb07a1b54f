"""Raw SQL, written once for both databases: PostgreSQL's placeholders, exact counts, rows as dictionaries, UTC times.

Write `$1`, `$2` …, `= ANY($1)` for a list, `FOR UPDATE [SKIP LOCKED]`; SQLite gets the nearest it has. Everything else must be
SQL that both know, or be chosen by `is_sqlite()`. Values that differ on the way back: SQLite returns times as text (`read_time`)
and yes/no as 0/1; JSON is text on both, to be written and read with the json module.
"""

import datetime
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from models import asyncpg_engine
from models.transaction import connection

_QUOTED_OR_OURS = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"[^"]*")
      | =\s*ANY\s*\(\s*\$(?P<list>\d+)\s*(?P<numbers>::text::bigint\[\])?\)
      | \s*\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b(?P<lock>(?:\s+OF\s+\w+)?(?:\s+SKIP\s+LOCKED|\s+NOWAIT)?)
      | \$(?P<value>\d+)""",
    re.IGNORECASE | re.VERBOSE,
)


class Params(list[Any]):
    """The values of a statement under construction."""

    def put(self, value: Any) -> str:
        """Its place in the statement: $3."""
        self.append(value)
        return f"${len(self)}"


async def rows(sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """What a SELECT, or any statement with RETURNING, returns."""
    return [dict(record) for record in await _read(sql, params, named=True)]  # a record knows its names


async def tuples(sql: str, params: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
    """The same, each row as its values in their order: half the cost of `rows`, for what is read by the thousand."""
    return await _read(sql, params, named=False)


async def _read(sql: str, params: Sequence[Any], *, named: bool) -> Sequence[Sequence[Any]]:
    client: Any = connection()
    found: Sequence[Sequence[Any]] = await client.read(_for_sqlite(sql) if client.is_sqlite else sql, _checked(params), named=named)
    return found


async def execute(sql: str, params: Sequence[Any] = ()) -> int:
    """How many rows a statement itself inserted, changed or deleted; rows that went by a cascade are not counted."""
    client: Any = connection()
    count: int = await client.affected(_for_sqlite(sql) if client.is_sqlite else sql, _checked(params))
    return count


async def execute_many(sql: str, records: Iterable[Sequence[Any]]) -> None:
    """One statement for every record, all or nothing, without a round trip each. Times must be aware: they are not checked."""
    await connection().execute_many(_dialect(sql), records)  # type: ignore[arg-type]  # any iterable reaches the drivers


async def copy_in(table: str, columns: Sequence[str], records: Iterable[Sequence[Any]]) -> int:
    """PostgreSQL's COPY, inside the current transaction if there is one; the number of rows.

    Raises TypeError on SQLite, which has execute_many. Times must be aware: they are not checked.
    """
    client = connection()
    if not isinstance(client, asyncpg_engine.Client | asyncpg_engine.Transaction):
        raise TypeError("COPY exists on PostgreSQL only: use execute_many() on SQLite.")
    return await client.copy_in(table, columns, records)


def numbers(values: Iterable[int]) -> str:
    """Whole numbers as one text, for `= ANY($1::text::bigint[])`: the elements of a list asyncpg weighs one by one, a microsecond each."""
    return f"{{{','.join(map(str, values))}}}"


async def database_time() -> datetime.datetime:
    """The one clock that all server processes share; SQLite has one process, and its clock."""
    return datetime.datetime.now(datetime.UTC) if is_sqlite() else read_time((await rows("SELECT now() AS now"))[0]["now"])


def is_sqlite() -> bool:
    client: Any = connection()
    return bool(client.is_sqlite)


def read_time(value: datetime.datetime | str) -> datetime.datetime:
    """A time out of a raw row, aware and in UTC, whichever database it comes from."""
    moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo is datetime.UTC else moment.astimezone(datetime.UTC)


def _dialect(sql: str) -> str:
    return _for_sqlite(sql) if is_sqlite() else sql


@lru_cache(maxsize=1024)
def _for_sqlite(sql: str) -> str:
    return _QUOTED_OR_OURS.sub(_replaced, sql)


def _replaced(match: re.Match[str]) -> str:
    if match["quoted"] is not None:
        return match["quoted"]
    if match["numbers"] is not None:
        return f"IN (SELECT value FROM json_each('[' || trim(?{match['list']}, '{{}}') || ']'))"
    if match["list"] is not None:
        return f"IN (SELECT value FROM json_each(?{match['list']}))"  # a list arrives as JSON: the adapter in sqlite_engine
    if match["value"] is not None:
        return f"?{match['value']}"
    return ""  # a lock clause: on SQLite the writer is alone


def _checked(params: Sequence[Any]) -> list[Any]:
    """PostgreSQL's driver would take a time without a zone for local time, and say nothing."""
    for value in params:
        if isinstance(value, datetime.datetime) and value.tzinfo is None:
            raise ValueError(f"A time without a zone cannot be stored: {value!r}.")
    return list(params)
