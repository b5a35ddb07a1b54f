"""The open GraphQL sockets of this process: who holds them, how many, and how they are sent away."""

import asyncio
from collections import Counter
from typing import Protocol

from realtime.pacing import spread

RESTARTING = 1012
NOT_ALLOWED = 4401
DRAIN_BATCHES = 20
BEGINNING = 8  # sockets and subscriptions at once; fewer than the connections of the database's pool, which is there for others too
LEAVE_S = 1.0  # for a peer to take its goodbye; then the connection is aborted
DRAIN_CROWD = 100  # from this many sockets on the whole time is used; fewer cannot storm the next process and go sooner


class OpenSocket(Protocol):
    """One open socket. `viewer_key` is None until its client has said who it is, and for anonymous ones; `seats` are those of its token's
    person when it was let in, and what they have gained since."""

    address: str
    viewer_key: str | None
    seats: frozenset[int]

    async def leave(self, code: int, reason: str) -> None:
        """Close with `code`, within a second, whatever the peer does."""


class Sockets:
    """Knows every open socket from its acceptance to its end."""

    def __init__(self) -> None:
        self.is_draining = False
        self.turns = asyncio.Semaphore(BEGINNING)  # taken to find out who is there and where a stream begins: thousands may come at once
        self._open: set[OpenSocket] = set()
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: OpenSocket) -> None:
        self._open.add(socket)
        self._addresses[socket.address] += 1

    def discard(self, socket: OpenSocket) -> None:
        if socket in self._open:
            self._open.discard(socket)
            self._addresses[socket.address] -= 1
            if not self._addresses[socket.address]:
                del self._addresses[socket.address]

    def at_address(self, address: str) -> int:
        return self._addresses[address]

    def viewers(self) -> dict[OpenSocket, str]:
        """Who holds which socket, by `viewer_key`; those that nobody holds yet are left out."""
        return {socket: socket.viewer_key for socket in self._open if socket.viewer_key is not None}

    def of_viewer(self, key: str) -> list[OpenSocket]:
        return [socket for socket in self._open if socket.viewer_key == key]

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more and send everybody away with 1012, spread over `seconds`, so that they don't come back as one storm."""
        self.is_draining = True
        leaving = list(self._open)
        spread_s = max(seconds - LEAVE_S, 0.0) * min(1.0, len(leaving) / DRAIN_CROWD)
        goodbyes: list[asyncio.Task[None]] = []
        async for some in spread(leaving, spread_s, parts=DRAIN_BATCHES):
            # Not awaited: a peer that stalls must not hold up the others.
            goodbyes += [asyncio.create_task(socket.leave(RESTARTING, "Restarting")) for socket in some]
        await asyncio.gather(*goodbyes)
