"""A lock by name over all server processes that may be held while something outside the database is waited for."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import asyncpg

from models.asyncpg_engine import Client
from models.engine import uninterrupted
from models.transaction import connection, in_transaction

CONNECTIONS = 4  # of one process that hold or await such locks; further callers wait for one of them
CONNECT_S = 5.0
CLOSE_S = 2.0
LOOK_EVERY_S = 0.05

_here: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = WeakValueDictionary()
_connections: WeakValueDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakValueDictionary()


class LockBusy(TimeoutError):
    """Somebody else held the lock for too long."""


@asynccontextmanager
async def alone(name: str, *, wait_s: float = 20.0) -> AsyncIterator[None]:
    """One holder of `name` at a time; with PostgreSQL in all processes, by an advisory lock on a connection of its own.

    It is not taken inside a transaction, which would be held open as long. The death of a holder frees it.
    Raises LockBusy after `wait_s` seconds.
    """
    assert not in_transaction(), "a named lock is taken before the transaction"
    loop = asyncio.get_running_loop()
    mine = _here.setdefault((loop, name), asyncio.Lock())
    limit = _connections.setdefault(loop, asyncio.Semaphore(CONNECTIONS))
    try:
        await asyncio.wait_for(mine.acquire(), wait_s)
    except TimeoutError:
        raise LockBusy(f"{name} is busy.") from None
    try:
        client = connection()
        if not isinstance(client, Client):  # SQLite: there is only this process
            yield
            return
        async with limit, _everywhere(client.dsn, name, wait_s):
            yield
    finally:
        mine.release()


@asynccontextmanager
async def _everywhere(dsn: str, name: str, wait_s: float) -> AsyncIterator[None]:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    held = await asyncpg.connect(dsn, timeout=CONNECT_S, server_settings={"application_name": "flotilla lock"})
    try:
        async with asyncio.timeout(wait_s):
            # Asked again and again, not waited for: a waiting statement is what a cancelled caller leaves behind.
            while not await held.fetchval("SELECT pg_try_advisory_lock($1)", key, timeout=CONNECT_S):
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        held.terminate()
        raise LockBusy(f"{name} is busy.") from None
    except BaseException:
        held.terminate()
        raise
    try:
        yield
    finally:
        await uninterrupted(_let_go(held))


async def _let_go(held: Any) -> None:
    """The server drops the lock with the connection."""
    try:
        await held.close(timeout=CLOSE_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # TimeoutError is an OSError
        held.terminate()
