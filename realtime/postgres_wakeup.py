"""Wake-ups through PostgreSQL's LISTEN and NOTIFY."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from realtime.remote_wakeup import PROBE_ANSWER_S, PROBE_S, RemoteWakeup


class PostgresWakeup(RemoteWakeup):
    """On a connection of its own: a pool in transaction mode would not carry it."""

    outages = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

    def __init__(self, url: str, *, topic: str = "flotilla") -> None:
        super().__init__(topic)
        self._url = url
        self._connection: Any = None
        self._turn = asyncio.Lock()  # a connection runs one statement at a time

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Callable[[], Any]]:
        options = {"application_name": "flotilla wake-up"}
        connection = await asyncpg.connect(self._url, timeout=5, command_timeout=PROBE_ANSWER_S, server_settings=options)
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._topic, lambda _connection, _pid, _channel, payload: self._received(payload))
            self._connection = connection
            yield lambda: self._probe(lost)
        finally:
            self._connection = None
            connection.terminate()

    async def _probe(self, lost: asyncio.Event) -> None:
        """A peer that vanished without a word is noticed by asking it."""
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await lost.wait()
            if not lost.is_set():
                await self._execute("SELECT 1")
        raise ConnectionError("PostgreSQL closed the connection.")

    async def _send(self, payload: str) -> None:
        if self._connection is not None:
            await self._execute("SELECT pg_notify($1, $2)", self._topic, payload)

    async def _execute(self, statement: str, *values: str) -> None:
        async with self._turn:
            await self._connection.execute(statement, *values)
