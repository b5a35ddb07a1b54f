"""Sends away whoever holds a connection on a token that was revoked, or on a seat in a team that was taken from them."""

import asyncio
import logging
from types import TracebackType
from typing import Self

from auth.standing import living_seats
from realtime.log import FAILURES
from transport.sockets import NOT_ALLOWED, Sockets

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.8  # with the time it takes to ask, nobody stays for a second


class Watch:
    """One look for all connections of the process, idle ones among them. The time of a token's own end is kept by each connection."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look_again_and_again(), name="watch over connections")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._looking is not None
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def look(self) -> None:
        """Close, with 4401, what no longer stands. Raises what a database that is away raises."""
        tokens = {socket: int(key) for socket, key in self._sockets.viewers().items()}
        living = await living_seats(set(tokens.values())) if tokens else {}
        gone = [socket for socket, token in tokens.items() if token not in living or socket.seats - living[token]]
        for socket in tokens.keys() - gone:
            socket.seats = living[tokens[socket]]
        await asyncio.gather(*(socket.leave(NOT_ALLOWED, "Not allowed any more") for socket in gone))

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except FAILURES as failure:
                log.warning("could not look at who is connected: %s", failure)
