"""Sends away whoever holds a connection on a token that was revoked, or on a seat in a team that was taken from them."""

import asyncio
import logging
from collections.abc import Mapping
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
        self._seats: Mapping[int, frozenset[int]] = {}
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
        tokens = {int(key) for key in self._sockets.viewer_keys()}
        before, self._seats = self._seats, await living_seats(tokens) if tokens else {}
        lost_a_seat = {token for token, seats in self._seats.items() if before.get(token, seats) - seats}
        gone = [*tokens - self._seats.keys(), *lost_a_seat]
        await asyncio.gather(*(self._sockets.close_viewer(str(token), NOT_ALLOWED, "Not allowed any more") for token in gone))

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except FAILURES as failure:
                log.warning("could not look at who is connected: %s", failure)
