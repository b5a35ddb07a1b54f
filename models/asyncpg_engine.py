"""Tortoise's asyncpg client with what it lacks: libpq URLs, timeouts everywhere, safe cancellation, exact counts, COPY."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import (
    ConnectionWrapper,
    NestedTransactionContext,
    PoolConnectionWrapper,
    TransactionalDBClient,
    TransactionContext,
    TransactionContextPooled,
)
from tortoise.connection import get_connections

from models.engine import refuse_if_ended, uninterrupted
from models.lending import Lending

log = logging.getLogger(__name__)


class _Borrowed(PoolConnectionWrapper[Any]):
    """A pooled connection for one statement."""

    client: "Client"

    async def __aenter__(self) -> Any:
        self.connection = await self.client.borrow()
        return self.connection

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        if exc_type is not None or not self.client.take_back(self.connection):
            await self.client.give_up(self.connection)


class _Statements(AsyncpgDBClient):
    """Statements whose count is right (Tortoise says 0 for every INSERT), reading without its wrappings, and bulk loading."""

    is_sqlite = False

    async def read(self, query: str, values: list[Any], *, named: bool) -> Sequence[Sequence[Any]]:
        """What a SELECT, or any statement with RETURNING, returns; asyncpg's records always know their names."""
        return await self._translate_exceptions(_Statements._read, query, values)  # type: ignore[return-value]  # typed as Exception

    async def _read(self, query: str, values: Sequence[Any]) -> Any:
        async with self.acquire_connection() as connection:
            return await connection.fetch(query, *values)

    async def affected(self, query: str, values: Sequence[Any]) -> int:
        return await self._translate_exceptions(_Statements._affected, query, values)  # type: ignore[return-value]  # typed as Exception

    async def _affected(self, query: str, values: Sequence[Any]) -> int:
        async with self.acquire_connection() as connection:
            status: str = await connection.execute(query, *values)  # "UPDATE 3", "INSERT 0 3", "CREATE TABLE"
        last = status.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def copy_in(self, table: str, columns: Sequence[str], records: Iterable[Sequence[Any]]) -> int:
        return await self._translate_exceptions(_Statements._copy_in, table, columns, records)  # type: ignore[return-value]  # as above

    async def _copy_in(self, table: str, columns: Sequence[str], records: Iterable[Sequence[Any]]) -> int:
        async with self.acquire_connection() as connection:
            status: str = await connection.copy_records_to_table(table, columns=list(columns), records=records)  # "COPY 3"
        return int(status.rpartition(" ")[2])


class Client(_Statements):
    """The pool of connections of this process."""

    def __init__(self, dsn: str, pool: dict[str, Any], acquire_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dsn = dsn
        self._pool_arguments = pool
        self._acquire_timeout_s = acquire_timeout_s
        self.lending: Lending | None = None

    @property
    def dsn(self) -> str:
        """Where the pool connects to, password included: for the few connections that must not be the pool's."""
        return self._dsn

    async def create_connection(self, with_db: bool) -> None:
        self._pool = await asyncpg.create_pool(self._dsn, reset=_nothing_to_reset, **self._pool_arguments)
        self.lending = Lending(self._pool, most=self._pool_arguments["max_size"], timeout_s=self._acquire_timeout_s)
        await self._post_connect()

    async def _close(self) -> None:
        if self.lending is not None:
            await self.lending.close()
        await super()._close()

    async def borrow(self) -> Any:
        if self.lending is None:
            async with self._pool_init_lock:
                if self.lending is None:
                    await self.create_connection(with_db=True)
        assert self.lending is not None
        return await self.lending.take()

    def take_back(self, connection: Any) -> bool:
        """Whether it is at hand again; if not, it has to be given up."""
        return self._pool is not None and self.lending is not None and self.lending.give_back(connection)

    async def give_up(self, connection: Any) -> None:
        """What was done with it has failed, or may be under way still. Never fails itself."""
        if self._pool is not None and self.lending is not None:
            await self.lending.give_up(connection)

    def acquire_connection(self) -> _Borrowed:
        return _Borrowed(self, self._pool_init_lock)

    def _in_transaction(self, *, quick: bool = False) -> TransactionContext:
        return _Transaction(Transaction(self), self._pool_init_lock)

    async def execute_many(self, query: str, values: Iterable[Any]) -> None:
        async with self._in_transaction() as client:
            await client.execute_many(query, values)  # type: ignore[arg-type]  # any iterable reaches the driver


class Transaction(TransactionWrapper, _Statements):
    """The connection while a transaction holds it; useless, and loudly so, once that has ended."""

    ended = False
    committed = False

    def acquire_connection(self) -> ConnectionWrapper[Any]:
        refuse_if_ended(self.ended)
        return super().acquire_connection()

    def _in_transaction(self, *, quick: bool = False) -> TransactionContext:
        refuse_if_ended(self.ended)
        return NestedTransactionContext(Transaction(self))

    async def finish(self, commit: bool) -> None:
        async with self._lock:
            self.ended = True
            if self._finalized or self.transaction is None:
                return
            if commit:
                await self.commit()
                self.committed = True
            else:
                await self.undo()

    async def undo(self) -> None:
        """Roll back; if that fails the connection is lost, which ends the transaction as well."""
        try:
            await self.rollback()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("A transaction ended with its connection instead of a rollback: %s.", type(error).__name__)


class _Transaction(TransactionContextPooled):
    """Entering and leaving; whatever happens on the way in, the connection goes back idle."""

    client: Transaction

    async def __aenter__(self) -> TransactionalDBClient:
        pool: Client = self.client._parent  # type: ignore[assignment]  # our own
        self.client._connection = await pool.borrow()
        try:
            await uninterrupted(self._begin())
        except BaseException:
            await uninterrupted(self._abandon(pool))
            raise
        self.token = get_connections().set(self.connection_name, self.client)
        return self.client

    async def _begin(self) -> None:
        await self.client.begin()

    async def _abandon(self, pool: Client) -> None:
        if self.client._connection.is_in_transaction():
            await self.client.undo()
        await pool.give_up(self.client._connection)

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        pool: Client = self.client._parent  # type: ignore[assignment]  # our own
        try:
            await uninterrupted(self.client.finish(commit=exc_type is None))
        finally:
            try:
                if exc_type is not None or not pool.take_back(self.client._connection):
                    await uninterrupted(pool.give_up(self.client._connection))
            finally:
                get_connections().reset(self.token)


async def _nothing_to_reset(_connection: object) -> None:
    """The pool's own reset is a round trip for each statement. What it undoes is what we never do on a connection of the pool: SET, LISTEN
    and advisory locks that outlive a transaction."""


client_class = Client
