"""One execution for many sockets: whoever would get the same answers follows one stream and is written to in one loop.

A follower reads the log at its own pace until nothing in memory is left to read; then it joins the stream of its key. It leaves again
when its socket is full, at a gap, and when what it may see changes, and goes on by itself from the place it was at. A stream keeps
nothing for anybody: who leaves reads the log.
Source: realtime, "Fan-out: one execution, many sockets".
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, Self

from models.transaction import detached
from realtime.cursor import Cursor, Gap
from realtime.dispatcher import AGAIN_S, Dispatcher, Filter, Topic
from realtime.log import FAILURES, Entry
from realtime.named import Held

logger = logging.getLogger(__name__)

TICK_S = 0.005  # the longest that a message waits for others, to be written with them in one go
FLUSH_BYTES = 64 << 10  # of payload; as much is not collected, it is written
RECHECK_S = 0.8  # how old what is known of a viewer may get; with the time it takes to ask, a stream outlives no authority by a second
PIECE = 50  # entries handed on before that authority is looked at again


class Item(NamedTuple):
    """One message as every follower of a stream gets it. The cursor is that of its entry."""

    cursor: Cursor
    payload: bytes


class Level(NamedTuple):
    """Said by whoever reads at its own pace: nothing in memory is left to read; everything up to here has been handed on."""

    position: int


class Message(Protocol):
    @property
    def cursor(self) -> Cursor: ...


class Source(ABC):
    """What a subscription of the log is read from, alone or in a stream."""

    @property
    @abstractmethod
    def topic(self) -> Topic: ...

    @property
    @abstractmethod
    def only(self) -> Filter: ...

    @abstractmethod
    def view(self, *, looks: bool) -> Hashable:
        """What decides the answers, beside the operation: equal views get equal messages.

        With `looks` the operation also shows what depends on who asks.
        """

    @property
    @abstractmethod
    def authority_key(self) -> Hashable:
        """Sources with the same one are allowed the same."""

    @abstractmethod
    async def check(self) -> Any:
        """What the viewer is allowed now, for renew(); None while nobody can tell. Raises what ends the subscription."""

    @abstractmethod
    def renew(self, authority: Any) -> None: ...

    @abstractmethod
    def read(self, begin: Cursor | Gap | int | None = None, *, is_slow: bool = False) -> AsyncGenerator[Sequence[Message] | Level, None]:
        """At its own pace: from where the subscription begins, or on from a position or gap of a stream.

        With `is_slow` states that were overtaken by later ones may be left out.
        """

    @abstractmethod
    async def messages(self, entries: Sequence[Entry]) -> Sequence[Message]:
        """What the viewer is shown of these."""

    @property
    @abstractmethod
    def named(self) -> Held | None:
        """Where how far it was delivered is remembered; None if it has no name."""

    @abstractmethod
    async def release(self) -> None:
        """Its subscriber has gone."""

    @abstractmethod
    def before_message(self) -> None:
        """What one message found is not to be used for the next."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Message]:
        """All of it at its own pace, for who knows nothing of streams."""


class Follower(Protocol):
    """One subscriber as a stream sees it; hashed by identity."""

    @property
    def lane(self) -> "Lane": ...

    @property
    def source(self) -> Source: ...

    @property
    def view(self) -> Hashable: ...

    async def prepare(self, entries: Sequence[Entry]) -> list[Item]: ...

    def recall(self, begin: int | Gap, error: Exception | None = None) -> None:
        """Sent out of the stream, to go on by itself from `begin`, or to end."""


class Lane(Protocol):
    """How items get to followers that are written to alike; equal lanes are one. Followers may fill up in it, but not leave."""

    def write(self, followers: Iterable[Any], items: Sequence[Item]) -> None: ...


class Fanout:
    """The streams of a process; a context manager.

    After a write a stream rests, and what comes meanwhile is written in one go: for `rest` times as long as the write took, and at most
    for `tick_s`. So few followers hardly wait, and however many there are, writing takes no more than half of the time.
    """

    def __init__(self, dispatcher: Dispatcher, *, tick_s: float = TICK_S, rest: float = 1.0) -> None:
        self.dispatcher = dispatcher
        self.tick_s = tick_s
        self.rest = rest
        self._streams: dict[Hashable, Stream] = {}
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = detached(self._watch(), name="authority of streams")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [stream.task for stream in self._streams.values()] + ([self._watching] if self._watching else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._streams)

    def join(self, key: Hashable, follower: Follower, position: int) -> "Stream | None":
        """Put a follower that has had everything up to `position` into the stream of its key; None where the stream is further."""
        key = (key, follower.view)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = Stream(self, key, follower, position)
        return stream if stream.join(follower, position) else None

    def forget(self, stream: "Stream") -> None:
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            checks = [stream.check() for stream in self._streams.values()]
            for failed in await asyncio.gather(*checks, return_exceptions=True):
                if isinstance(failed, Exception):  # one stream's trouble; the others are looked at again all the same
                    logger.error("The authority of a stream could not be looked at.", exc_info=failed)


class Stream:
    """One reading of the log for all who would get the same. It lives as long as it has followers."""

    def __init__(self, fanout: Fanout, key: Hashable, follower: Follower, position: int) -> None:
        self.key = key
        self.position = position  # everything up to here has been handed to the followers' sockets
        self.last: Cursor | None = None  # of the last item written
        self._fanout = fanout
        self._view = follower.view
        self._lanes: dict[Lane, dict[Follower, None]] = {}
        self._early: dict[Follower, int] = {}  # those who have had more than the stream has given, and how much
        self._items: list[Item] = []  # prepared, not written yet
        self._size = 0  # bytes of them
        self._through = position  # with them written, everything up to here has been handed on
        self._is_writing = False
        self._full: list[Follower] = []  # to go after the write
        self._timer: asyncio.TimerHandle | None = None
        self._write_at = 0.0  # the earliest time of the next write
        self._loop = asyncio.get_running_loop()
        self._checked_at = self._loop.time()
        self._checking = asyncio.Lock()
        self._reader = fanout.dispatcher.read_on(follower.source.topic, after=position, only=follower.source.only)
        self.task = detached(self._run(), name="stream")

    # ── followers ──
    def join(self, follower: Follower, position: int) -> bool:
        if position < self.position:
            return False
        if position > self.position:
            self._early[follower] = position
        else:
            self._lanes.setdefault(follower.lane, {})[follower] = None
        return True

    def leave(self, follower: Follower) -> int | None:
        """The place it was at; None if it is not here any more."""
        if follower in self._early:
            place = self._early.pop(follower)
        elif follower in self._lanes.get(follower.lane, ()):
            place = self.position
            del self._lanes[follower.lane][follower]
            if not self._lanes[follower.lane]:
                del self._lanes[follower.lane]
        else:
            return None
        if not self._lanes and not self._early:
            self._end()
        return place

    def let_go(self, follower: Follower) -> None:
        """Its socket is full: it goes on by itself."""
        if self._is_writing:
            self._full.append(follower)
        else:
            self._send_away([follower])

    def _followers(self) -> list[Follower]:
        return [follower for lane in self._lanes.values() for follower in lane] + list(self._early)

    def _send_away(self, followers: Collection[Follower], gap: Gap | None = None, error: Exception | None = None) -> None:
        for follower in followers:
            place = self.leave(follower)
            if place is not None:
                follower.recall(place if gap is None else gap, error)

    # ── authority ──
    async def check(self) -> None:
        """Look at most once a second at what each viewer may; who may less, or sees something else now, goes."""
        async with self._checking:
            if self._loop.time() - self._checked_at < RECHECK_S * 0.9:
                return
            by_key: dict[Hashable, list[Follower]] = {}
            for follower in self._followers():
                by_key.setdefault(follower.source.authority_key, []).append(follower)
            began = self._loop.time()
            found = await asyncio.gather(*(alike[0].source.check() for alike in by_key.values()), return_exceptions=True)
            self._checked_at = began
            for alike, authority in zip(by_key.values(), found, strict=True):
                self._judge(alike, authority)

    def _judge(self, alike: list[Follower], authority: Any) -> None:
        if isinstance(authority, Exception):
            self._send_away(alike, error=authority)
        elif authority is not None and not isinstance(authority, BaseException):
            for follower in alike:
                follower.source.renew(authority)
            if alike[0].view != self._view:
                self._send_away(alike)

    # ── reading ──
    async def _run(self) -> None:
        try:
            while self._lanes or self._early:
                found = await self._reader.next()
                if found is None:
                    break
                if isinstance(found, Gap):
                    self._flush()
                    self._send_away(self._followers(), found)
                    break
                for start in range(0, len(found), PIECE):
                    await self._hand_on(found[start : start + PIECE])
        except Exception:  # each of them meets it again by itself, and tells its own client
            logger.exception("A stream failed; its followers go on alone.")
        finally:
            self._end()
            self._send_away(self._followers())

    async def _hand_on(self, entries: Sequence[Entry]) -> None:
        if self._loop.time() - self._checked_at >= RECHECK_S:
            await self.check()
        for item in await self._prepared(entries):
            self._items.append(item)
            self._size += len(item.payload)
            self._through = item.cursor.position
            if self._size >= FLUSH_BYTES:  # here, so that no socket gets much more than it can take before it is known to be full
                self._flush()
        self._through = entries[-1].position
        if not self._items or (self._timer is None and self._loop.time() >= self._write_at):
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._write_at, self._flush)

    async def _prepared(self, entries: Sequence[Entry]) -> list[Item]:
        """By any of the followers: all would get the same."""
        while (follower := self._any()) is not None:
            try:
                items = await follower.prepare(entries)
            except FAILURES as error:
                logger.warning("A stream waits for the database: %s: %s", type(error).__name__, error)
                await asyncio.sleep(AGAIN_S)
            else:
                if follower.view == self._view:  # else it was sent away meanwhile, and may have seen what is not for the others
                    return items
        return []

    def _any(self) -> Follower | None:
        in_lanes = (follower for lane in self._lanes.values() for follower in lane)
        return next(in_lanes, None) or next(iter(self._early), None)

    # ── writing ──
    def _flush(self) -> None:
        """Write what was collected. Whose socket fills up meanwhile has had all of it, and goes afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        items, self._items, self._size = self._items, [], 0
        if items:
            begun = self._loop.time()
            self.last = items[-1].cursor
            self._is_writing = True
            for lane, followers in self._lanes.items():
                lane.write(followers, items)
            ended = self._loop.time()
            self._write_at = ended + min(self._fanout.tick_s, (ended - begun) * self._fanout.rest)
        self.position = max(self.position, self._through)
        self._let_in(items)
        self._is_writing = False
        full, self._full = self._full, []
        self._send_away(full)

    def _let_in(self, items: Sequence[Item]) -> None:
        """Those who came early: give them what they have not had; they are level once the stream has come to where they were."""
        for follower, position in list(self._early.items()):
            unseen = [item for item in items if item.cursor.position > position]
            if unseen:
                follower.lane.write((follower,), unseen)
            if position <= self.position:
                del self._early[follower]
                self._lanes.setdefault(follower.lane, {})[follower] = None

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fanout.forget(self)
        self._reader.close()
