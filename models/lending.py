"""Lends the connections of a pool in the order in which they were asked for.

asyncpg's own pool starts a task for every connection that comes back, and lets whoever comes next take it from before those who wait.
"""

import asyncio
import logging
from collections import deque
from typing import Any

import asyncpg

from models.engine import Patience, within

log = logging.getLogger(__name__)

RELEASE_S = 2.0  # seconds to bring a connection back to idle; after that it is thrown away


class Lending:
    """What is at hand of `pool`, which makes connections and ends them, `most` at a time. A wait ends after `timeout_s` seconds."""

    def __init__(self, pool: asyncpg.Pool, *, most: int, timeout_s: float) -> None:
        self._pool = pool
        self._free = most  # more that may be made
        self._timeout_s = timeout_s
        self._patience = Patience()
        self._at_hand: list[Any] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()  # each is told a connection, or None: to make one itself

    @property
    def lent(self) -> int:
        """How many are with somebody."""
        held = sum(not holder.is_idle() for holder in self._pool._holders)
        return held - len(self._at_hand)

    async def take(self) -> Any:
        """A connection of one's own until it is given back. Raises DatabaseBusy."""
        while self._at_hand:
            connection = self._at_hand.pop()
            if not connection.is_closed():
                return connection
            await self.give_up(connection)
        if self._free:
            self._free -= 1
            return await self._made()
        return await self._awaited() or await self._made()

    def give_back(self, connection: Any) -> bool:
        """Whether it is as good as new, and at hand again; one that is not has to be given up."""
        if connection.is_closed() or connection.is_in_transaction():
            return False
        if heir := self._next():
            heir.set_result(connection)
        else:
            self._at_hand.append(connection)
        return True

    async def give_up(self, connection: Any) -> None:
        """Let the pool bring it back to idle, or replace it. Never fails: what was done with the connection is done."""
        try:
            await self._end(connection)
        finally:
            self._let_make()

    async def close(self) -> None:
        """Leave what is at hand to the pool."""
        while self._at_hand:
            await self._end(self._at_hand.pop())

    async def _awaited(self) -> Any:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with within(self._timeout_s):
                return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it came too late
                await self._pass_on(turn.result())
            raise

    async def _pass_on(self, connection: Any) -> None:
        if connection is None:
            self._let_make()
        elif not self.give_back(connection):
            await self.give_up(connection)

    async def _made(self) -> Any:
        try:
            async with within(self._timeout_s):
                return await self._dialed()
        except BaseException:
            self._let_make()
            raise

    async def _dialed(self) -> Any:
        """A connection of the pool's, new or not. A database that cannot be reached is left alone for a moment: DatabaseAway."""
        if not self._pool.get_idle_size():
            self._patience.require()
        try:
            connection = await self._pool.acquire()
        except (asyncpg.PostgresError, OSError) as error:
            self._patience.failed(error)
            raise
        self._patience.succeeded()
        return connection

    async def _end(self, connection: Any) -> None:
        try:
            await self._pool.release(connection, timeout=RELEASE_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:  # TimeoutError is an OSError
            log.warning("A database connection was thrown away: %s.", type(error).__name__)

    def _let_make(self) -> None:
        if heir := self._next():
            heir.set_result(None)
        else:
            self._free += 1

    def _next(self) -> "asyncio.Future[Any] | None":
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                return turn
        return None
