"""Tortoise's SQLite client with what it lacks: BEGIN IMMEDIATE, safe cancellation, bounded waits, exact counts, UTC text for times."""

import asyncio
import datetime
import hashlib
import json
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import aiosqlite
from tortoise.backends.base.client import ConnectionWrapper, NestedTransactionContext, TransactionalDBClient, TransactionContext
from tortoise.backends.sqlite import executor  # noqa: F401  # registers Tortoise's adapters, which ours below replace
from tortoise.backends.sqlite.client import SqliteClient, SqliteTransactionContext, SqliteTransactionWrapper
from tortoise.connection import get_connections
from tortoise.exceptions import IntegrityError, OperationalError

from models.engine import refuse_if_ended, uninterrupted, within
from models.sqlite_writing import LOG_PRAGMAS, Carrier, Here

log = logging.getLogger(__name__)

T = TypeVar("T")


def stored_time(value: datetime.datetime) -> str:
    """The text under which SQLite keeps a time: UTC, as Tortoise itself writes it, so that text order is time order.

    Raises ValueError for a time without a zone.
    """
    if value.tzinfo is None:
        raise ValueError(f"A time without a zone cannot be stored: {value!r}.")
    return value.astimezone(datetime.UTC).isoformat(" ")


# The driver asks these for every value it does not know, in ORM writes, ORM filters and raw SQL alike: the one place.
sqlite3.register_adapter(datetime.datetime, stored_time)
sqlite3.register_adapter(uuid.UUID, str)
sqlite3.register_adapter(list, json.dumps)  # read back by json_each: see models/sql.py
sqlite3.register_adapter(tuple, json.dumps)


def _md5(text: str | None) -> str | None:
    return None if text is None else hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class _Turn(ConnectionWrapper[aiosqlite.Connection]):
    """A statement's turn on the only connection; a cancelled or failed wait leaves the lock free."""

    def __init__(self, client: "Client") -> None:
        super().__init__(client._lock, client)
        self._timeout_s = client.acquire_timeout_s

    async def __aenter__(self) -> aiosqlite.Connection:
        async with within(self._timeout_s):
            await self._lock.acquire()
        try:
            await self.ensure_connection()
        except BaseException:
            self._lock.release()
            raise
        return self.connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OperationalError(error) from error
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error


class _Statements(SqliteClient):
    """Statements with the errors translated and the count of what they themselves changed.

    Tortoise counts by `total_changes`, which adds the rows a cascade deletes: one deleted parent of 1,000 children was 1,001.
    """

    is_sqlite = True

    async def execute_query(self, query: str, values: list[Any] | None = None) -> tuple[int, Sequence[Any]]:
        def run(connection: sqlite3.Connection) -> tuple[int, Sequence[Any]]:
            cursor = connection.execute(query, values or ())
            found = cursor.fetchall()
            return (cursor.rowcount if cursor.rowcount >= 0 else len(found)), found

        return await self._do(run)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        async with self.acquire_connection() as connection:
            with _translated():
                found: T = await connection._execute(work, connection._conn)  # one trip to the thread
                return found

    async def affected(self, query: str, values: Sequence[Any]) -> int:
        return (await self.execute_query(query, list(values)))[0]

    async def read(self, query: str, values: list[Any], *, named: bool) -> Sequence[Sequence[Any]]:
        """What a SELECT, or any statement with RETURNING, returns; the names of the columns are asked for where they are `named`."""
        return (await self.execute_query(query, values))[1]


class Client(_Statements):
    """The one connection of a SQLite database for all tasks of the process, one at a time; and another for what is over in a moment."""

    def __init__(self, file_path: str, acquire_timeout_s: float, **pragmas: Any) -> None:
        super().__init__(file_path, **pragmas)
        self.acquire_timeout_s = acquire_timeout_s
        self.pragmas |= LOG_PRAGMAS
        self.here: Here | None = None
        self._carrier: Carrier | None = None

    async def create_connection(self, with_db: bool) -> None:
        """With the hash that PostgreSQL has, so that one text of SQL can spread rows on both."""
        await super().create_connection(with_db)
        assert self._connection is not None
        await self._connection.create_function("md5", 1, _md5, deterministic=True)
        self.here = Here(self.filename, self.pragmas)
        self.here.register("md5", _md5)
        self._carrier = Carrier(self.filename, self.here, self._lock)

    async def close(self) -> None:
        if self._carrier is not None:
            await self._carrier.close()
            self._carrier = None
        if self.here is not None:
            self.here.close()
            self.here = None
        await super().close()

    async def execute_query(self, query: str, values: list[Any] | None = None) -> tuple[int, Sequence[Any]]:
        found = self.here.read(query, values or (), named=True) if self.here is not None else None
        return (len(found), found) if found is not None else await super().execute_query(query, values)

    async def read(self, query: str, values: list[Any], *, named: bool) -> Sequence[Sequence[Any]]:
        found = self.here.read(query, values, named=named) if self.here is not None else None
        return found if found is not None else (await super().execute_query(query, values))[1]

    def acquire_connection(self) -> _Turn:
        return _Turn(self)

    def _in_transaction(self, *, quick: bool = False) -> "_Transaction":
        return _Transaction(Transaction(self), self._lock, self.here if quick else None)

    async def execute_many(self, query: str, values: Iterable[Any]) -> None:
        # Tortoise's own leaves its transaction open on the shared connection when it is cancelled.
        async with self._in_transaction() as client:
            await client.execute_many(query, values)  # type: ignore[arg-type]  # any iterable reaches the driver


class Transaction(SqliteTransactionWrapper, _Statements):
    """The connection while a transaction holds it; useless, and loudly so, once that has ended.

    A quick one runs on the event loop's own connection, where it can: with statements of models.sql alone, and without a suspension.
    """

    ended = False
    committed = False
    _here: Here | None = None

    def acquire_connection(self) -> ConnectionWrapper[aiosqlite.Connection]:
        refuse_if_ended(self.ended)
        if self._here is not None:
            raise TypeError("A quick transaction knows the statements of models.sql only.")
        return super().acquire_connection()

    def _in_transaction(self, *, quick: bool = False) -> TransactionContext:
        refuse_if_ended(self.ended)
        return NestedTransactionContext(Transaction(self))

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._here is None:
            return await super()._do(work)
        refuse_if_ended(self.ended)
        with _translated():
            return work(self._here.connection)

    async def execute_many(self, query: str, values: Iterable[Any]) -> None:
        await self._do(lambda connection: connection.executemany(query, values))

    def begins_at(self, here: Here) -> bool:
        if here.begin():
            self._here = here
        return self._here is not None

    def finish_here(self, commit: bool) -> None:
        assert self._here is not None
        self.ended = self._finalized = True
        try:
            if commit:
                self._here.commit()
                self.committed = True
        finally:
            if not self.committed:
                self._here.rollback()

    async def begin(self) -> None:
        # A plain BEGIN takes the write lock at the first write, and fails at once if another process wrote since its first read.
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise OperationalError(error) from error

    async def finish(self, commit: bool) -> None:
        async with self._lock:
            self.ended = True
            if commit and not self._finalized:
                try:
                    await self._connection.commit()
                except BaseException:
                    await self._undo()
                    raise
                self.committed = True
            else:
                await self._undo()
            self._finalized = True

    async def _undo(self) -> None:
        try:
            await self._connection.rollback()  # nothing to do when no transaction is open
        except (sqlite3.Error, ValueError):  # ValueError: the connection was closed meanwhile
            log.exception("A transaction could not be rolled back.")


class _Transaction(SqliteTransactionContext):
    """Entering and leaving; whatever happens on the way in, the lock is free and nothing is begun."""

    connection: Transaction

    def __init__(self, connection: Transaction, turn: asyncio.Lock, here: Here | None) -> None:
        super().__init__(connection, turn)
        self._here = here

    async def __aenter__(self) -> TransactionalDBClient:
        async with within(self.connection._parent.acquire_timeout_s):  # type: ignore[attr-defined]  # our Client
            await self._trxlock.acquire()
        try:
            await self.ensure_connection()
            if self._here is None or not self.connection.begins_at(self._here):
                self._here = None
                await uninterrupted(self.connection.begin())
        except BaseException:
            try:
                await uninterrupted(self.connection._undo())
            finally:
                self._trxlock.release()
            raise
        self.token = get_connections().set(self.connection_name, self.connection)
        return self.connection

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        try:
            if self._here is not None:
                self.connection.finish_here(commit=exc_type is None)
            else:
                await uninterrupted(self.connection.finish(commit=exc_type is None))
        finally:
            self._trxlock.release()
            get_connections().reset(self.token)


client_class = Client
