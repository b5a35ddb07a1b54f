"""How messages leave: as finished frames where the server takes them, as one awaited ASGI message after the other elsewhere."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from realtime.sources import Item, Lane

FRAMES = "flotilla.frames"  # the ASGI extension
ABORT = "flotilla.abort"  # another: ends the connection at once
FULL_BYTES = 64 << 10  # waiting to be sent; the mark of asyncio's own transports
FULL_CHUNKS = 1000
_ID = b'{"id":'
_NEXT = b',"type":"next","payload":'


class Frames(Protocol):
    """What a WebSocket server offers under FRAMES: its transport, for frames that are finished. Nothing is compressed there."""

    on_full: Callable[[], None]

    @property
    def write_frames(self) -> Callable[[bytes], None]:
        """Takes whole frames, never waits."""

    @property
    def is_full(self) -> bool: ...

    async def drained(self) -> None: ...

    def mark(self) -> Callable[[], bool]: ...


class Wire(Protocol):
    """One open connection, to write to without waiting; who writes on while it is full fills memory.

    `on_full` is called when it becomes so, and must not write.
    """

    on_full: Callable[[], None]

    @property
    def is_full(self) -> bool: ...

    def write(self, text: bytes) -> None: ...

    def lane(self, ident: bytes) -> Lane: ...

    async def drained(self) -> None:
        """Wait while it is full."""

    def mark(self) -> Callable[[], bool]:
        """A question to be asked later: has the peer what was written until now? As far as this side can know."""


class Written(Protocol):
    """A follower as lanes know it: its wire, and the operation's id as JSON."""

    wire: Wire
    ident: bytes


class WrittenRaw(Written, Protocol):
    write_frames: Callable[[bytes], None]


def frame_head(length: int) -> bytes:
    """The head of one whole, unmasked text frame."""
    if length < 126:
        return bytes((0x81, length))
    if length < 1 << 16:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def next_message(ident: bytes, item: Item) -> bytes:
    return b"".join((_ID, ident, _NEXT, item.payload, b"}"))


@dataclass(frozen=True, slots=True)
class RawLane:
    """Sockets whose frames differ by an id of the same length only, so that all but the id is made once."""

    ident_length: int

    def write(self, followers: Iterable[WrittenRaw], items: Sequence[Item]) -> None:
        between, parts = b"", []
        for item in items:
            tail = _NEXT + item.payload + b"}"
            parts.append(between + frame_head(len(_ID) + self.ident_length + len(tail)) + _ID)
            between = tail
        parts.append(between)
        head, tail = parts[0], parts[-1]
        is_single = len(parts) == 2
        for follower in followers:
            ident = follower.ident
            try:
                follower.write_frames(head + ident + tail if is_single else ident.join(parts))
            except RuntimeError:  # uvloop's word for a connection that has just ended: its conversation is about to hear of it
                continue


@dataclass(frozen=True, slots=True)
class TextLane:
    def write(self, followers: Iterable[Written], items: Sequence[Item]) -> None:
        for follower in followers:
            for item in items:
                follower.wire.write(next_message(follower.ident, item))


class RawWire:
    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.write_frames = frames.write_frames

    @property
    def on_full(self) -> Callable[[], None]:
        return self._frames.on_full

    @on_full.setter
    def on_full(self, act: Callable[[], None]) -> None:
        self._frames.on_full = act

    @property
    def is_full(self) -> bool:
        return self._frames.is_full

    def write(self, text: bytes) -> None:
        with suppress(RuntimeError):  # as above
            self.write_frames(frame_head(len(text)) + text)

    def lane(self, ident: bytes) -> Lane:
        return RawLane(len(ident))

    async def drained(self) -> None:
        await self._frames.drained()

    def mark(self) -> Callable[[], bool]:
        return self._frames.mark()


class QueuedWire:
    """For servers that take one message at a time. `run` sends what waits, and raises TimeoutError when one is not taken in time."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], *, stalled_s: float, lane: Lane | None = None) -> None:
        self.on_full: Callable[[], None] = lambda: None
        self._send = send
        self._stalled_s = stalled_s
        self._lane = lane or TextLane()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._is_sending = False
        self._sent = 0  # chunks the server has taken

    @property
    def is_full(self) -> bool:
        return not self._room.is_set()

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._is_sending

    def write(self, text: bytes) -> None:
        self._waiting.append(text)
        self._size += len(text)
        self._some.set()
        if not self.is_full and (self._size > FULL_BYTES or len(self._waiting) > FULL_CHUNKS):
            self._room.clear()
            self.on_full()

    def lane(self, ident: bytes) -> Lane:
        return self._lane

    async def drained(self) -> None:
        await self._room.wait()

    def mark(self) -> Callable[[], bool]:
        """Here it is known only that the server has taken it."""
        wanted = self._sent + len(self._waiting) + self._is_sending
        return lambda: self._sent >= wanted

    async def run(self) -> None:
        while True:
            await self._some.wait()
            while self._waiting:
                text = self._waiting.popleft()
                self._is_sending = True
                async with asyncio.timeout(self._stalled_s):
                    await self._send(text)
                self._is_sending = False
                self._sent += 1
                self._size -= len(text)
                if self._size <= FULL_BYTES // 4:
                    self._room.set()
            self._some.clear()

    async def emptied(self) -> None:
        """Wait until all has been sent; only while `run` is at work."""
        while not self.is_empty:
            await asyncio.sleep(0.01)
