"""A stream: those who would get the same, for whom each entry is executed once and who are written to in one loop.

In step with the other streams of its topic it is handed what one reading finds for all of them, and waits for nothing. When it must
wait, for the database or to learn what a viewer may, it goes aside: it reads on by itself until nothing in memory is left to read, and is
in step again. It keeps nothing for anybody: who leaves it, or goes aside with it, reads the log.
Source: realtime, "Fan-out: one execution, many sockets".
"""

import asyncio
import logging
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Protocol

from models.transaction import detached
from realtime.cursor import Cursor, Gap, GapReason
from realtime.dispatcher import AGAIN_S, Dispatcher, Reader
from realtime.log import FAILURES, Entry
from realtime.sources import PIECE, STALE_S, Follower, Item, Lane, Message

logger = logging.getLogger(__name__)

FLUSH_BYTES = 64 << 10  # of payload in one write: no socket gets much more than it can take before it is known to be full


class Surroundings(Protocol):
    """What a stream needs of the topic it belongs to."""

    @property
    def dispatcher(self) -> Dispatcher: ...

    @property
    def position(self) -> int:
        """Streams in step are handed what comes behind it."""

    def forget(self, stream: "Stream") -> None: ...

    async def rest(self, worked_s: float) -> None: ...


class Stream:
    """It lives as long as it has followers."""

    __slots__ = (
        "_clock", "_early", "_full", "_is_writing", "_lanes", "_reader", "_topic", "_topic_name", "_view",
        "alike", "aside", "checked_at", "is_in_step", "key", "last", "only", "position",
    )  # fmt: skip

    def __init__(self, key: Hashable, follower: Follower, position: int, topic: Surroundings) -> None:
        self.key = key
        self.alike = follower.source.view(looks=False)  # streams with an equal one get the same messages, and show them differently
        self.only = follower.source.only
        self.position = position  # everything up to here has been handed to the followers' sockets
        self.last: Cursor | None = None  # of the last item written
        self.checked_at = follower.source.checked_at  # the oldest of what is known of its viewers
        self.is_in_step = False
        self._topic = topic
        self._topic_name = follower.source.topic
        self._view = follower.view
        self._lanes: dict[Lane, dict[Follower, None]] = {}
        self._early: dict[Follower, int] = {}  # those who have had more than the stream has given, and how much
        self._is_writing = False
        self._full: list[Follower] = []  # to go after the write
        self._reader: Reader | None = None  # while it is aside
        self.aside: asyncio.Task[None] | None = None
        self._clock = asyncio.get_running_loop().time

    # ── followers ──
    def join(self, follower: Follower, position: int) -> bool:
        if position < self.position:
            return False
        if position > self.position:
            self._early[follower] = position
        else:
            self._lanes.setdefault(follower.lane, {})[follower] = None
        self.checked_at = min(self.checked_at, follower.source.checked_at)
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

    def followers(self) -> list[Follower]:
        return [follower for lane in self._lanes.values() for follower in lane] + list(self._early)

    def disband(self) -> None:
        """Everybody goes on alone; what was in the way here they meet by themselves, and each tells its own client."""
        self._send_away(self.followers())
        self._end()

    def break_off(self, gap: Gap) -> None:
        """Everybody goes, and is told of the gap who misses something by it."""
        self._send_away(self.followers(), gap)

    def _send_away(self, followers: Collection[Follower], gap: Gap | None = None, error: Exception | None = None) -> None:
        for follower in followers:
            place = self.leave(follower)
            if place is not None:
                misses = gap is not None and (gap.reason is GapReason.RESTORED or place < gap.to.position)
                follower.recall(gap if gap is not None and misses else place, error)

    def _end(self) -> None:
        self.is_in_step = False
        self._topic.forget(self)
        if self._reader is not None:
            self._reader.close()

    # ── authority ──
    def judge(self, alike: Sequence[Follower], authority: Any) -> None:
        """Those of a viewer, by what they were found to be allowed: who may less, or sees something else now, goes."""
        if isinstance(authority, Exception):
            self._send_away(alike, error=authority)
        elif not isinstance(authority, BaseException):
            for follower in alike:
                follower.source.renew(authority)
            if alike[0].view != self._view:
                self._send_away(alike)

    def note_age(self) -> None:
        """Once everybody has been judged."""
        self.checked_at = min((follower.source.checked_at for follower in self.followers()), default=self.checked_at)

    # ── in step ──
    def fall_in(self) -> None:
        """In step from now on; aside first if the others have had more."""
        if self.position >= self._topic.position:
            self.is_in_step = True
        else:
            self._go_aside()

    def messages_at_once(self, entries: Sequence[Entry]) -> Sequence[Message] | None:
        """What is told of these, to all who are alike; None where that has to be waited for."""
        follower = self._any()
        return follower.source.messages_at_once(entries) if follower is not None else None

    def hand_on(self, messages: Sequence[Message] | None, through: int, now: float) -> None:
        """All that is told of the topic up to `through`, to be written at once; where something has to be waited for it goes aside."""
        if not self.is_in_step:
            return
        if messages and messages[0].cursor.position <= self.position:
            messages = [message for message in messages if message.cursor.position > self.position]
        items = None if messages is None else self._prepared_at_once(messages, now)
        if items is None:
            self._go_aside()
        else:
            self._write(items, through)

    def _prepared_at_once(self, messages: Sequence[Message], now: float) -> list[Item] | None:
        if not messages:
            return []
        follower = self._any()
        return None if follower is None or now - self.checked_at >= STALE_S else follower.prepare_at_once(messages)

    def _any(self) -> Follower | None:
        """All would get the same."""
        for lane in self._lanes.values():
            for follower in lane:
                return follower
        return next(iter(self._early), None)

    # ── aside ──
    def _go_aside(self) -> None:
        self.is_in_step = False
        self._reader = self._topic.dispatcher.read_on(self._topic_name, after=self.position, only=self.only)
        self.aside = detached(self._read_aside(self._reader), name="stream that waits")

    async def _read_aside(self, reader: Reader) -> None:
        try:
            with reader:
                while (found := await reader.next(wait=False)) is not None:
                    if found == []:
                        if self._is_level(reader):
                            self.is_in_step, self._reader = True, None
                            return
                        await reader.woken.wait()
                    elif isinstance(found, Gap):
                        self.break_off(found)
                    else:
                        begun = self._clock()
                        await self._hand_on_aside(found)
                        if reader.woken.is_set():
                            await self._topic.rest(self._clock() - begun)
        except Exception:
            logger.exception("A stream failed; its followers go on alone.")
        self.disband()

    def _is_level(self, reader: Reader) -> bool:
        self._flush([], max(reader.position, self._topic.dispatcher.position))
        return self.position >= self._topic.position

    async def _hand_on_aside(self, entries: Sequence[Entry]) -> None:
        for start in range(0, len(entries), PIECE):
            piece = entries[start : start + PIECE]
            if self._clock() - self.checked_at >= STALE_S:
                await look([self])
            self._write(await self._prepared(piece), piece[-1].position)

    async def _prepared(self, entries: Sequence[Entry]) -> list[Item]:
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

    # ── writing ──
    def _write(self, items: Sequence[Item], through: int) -> None:
        begin = size = 0
        for end, item in enumerate(items, 1):
            size += len(item.payload)
            if size >= FLUSH_BYTES:
                self._flush(items[begin:end], item.cursor.position)
                begin, size = end, 0
        self._flush(items[begin:], through)

    def _flush(self, items: Sequence[Item], through: int) -> None:
        """One write. Whose socket fills up meanwhile has had all of it, and goes afterwards."""
        self._is_writing = True
        if items:
            self.last = items[-1].cursor
            for lane, followers in self._lanes.items():
                lane.write(followers, items)
        self.position = max(self.position, through)
        if self._early:
            self._let_in(items)
        self._is_writing = False
        if self._full:
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


async def look(streams: Collection[Stream]) -> None:
    """Look at what each viewer of these may now, once for all who are allowed the same."""
    by_key: dict[Hashable, dict[Stream, list[Follower]]] = {}
    for stream in streams:
        for follower in stream.followers():
            by_key.setdefault(follower.source.authority_key, {}).setdefault(stream, []).append(follower)
    found = await asyncio.gather(*map(_checked, by_key.values()), return_exceptions=True)
    for alike, authority in zip(by_key.values(), found, strict=True):
        for stream, followers in alike.items():
            stream.judge(followers, authority)
    for stream in streams:
        stream.note_age()


async def _checked(alike: dict[Stream, list[Follower]]) -> Any:
    first = next(iter(alike.values()))[0]
    return await first.source.check()
