"""One reader of the log for a process, and the readers of subscriptions behind it: replay, catch-up and live in one way of reading.

Nothing is queued for a subscriber. Each reader has a position and pulls what comes after it: from memory while it keeps up, from
the database when it is further behind. So a slow one costs no memory, and the seam is nowhere.
Source: realtime, "The road"; reliability, "Redis: a hint, never the truth".
"""

import asyncio
import contextlib
import heapq
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

from models.transaction import detached
from realtime import log
from realtime.cursor import Cursor, Gap, GapReason
from realtime.log import FAILURES, PAGE, Entry, one_page
from realtime.wakeup import LOG, Wakeup

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # seconds: the log is read at least this often, whatever the wake-ups say
AGAIN_S = 0.5  # seconds until a read is tried again that the database did not answer
RING = 10_000  # entries kept in memory, over all topics somebody reads; one takes 0.8 KB besides its data
RING_BYTES = 8 << 20  # of data in them

Topic = int | str  # a product's number, or a device's ID
WHOLE_LOG: Topic = "*"  # all products and devices: for what every process reads once for itself

_position = attrgetter("position")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reader wants of its topics. `devices` is asked at each entry, so what it says may change while the stream runs."""

    kinds: tuple[str, ...] = ()  # none: all
    name_prefix: str = ""  # case-sensitive
    devices: Callable[[str | None], bool] | None = None  # None is asked for entries that no device published

    def takes(self, entry: Entry) -> bool:
        return (
            (not self.kinds or entry.kind in self.kinds)
            and entry.name.startswith(self.name_prefix)
            and (self.devices is None or self.devices(entry.device_id))
        )


class Dispatcher:
    """Reads the log after its last position at each wake-up, at each sign that one was missed, and every second."""

    def __init__(self, wakeup: Wakeup, *, ring: int = RING) -> None:
        self._wakeup = wakeup
        self._ring_size = ring
        self._ring: list[Entry] = []  # what is in any topic's list, in order
        self._ring_bytes = 0  # of data in them
        self._topics: dict[Topic, _Topic] = {}
        self._woken = asyncio.Event()
        self._end = Cursor("", 0, 0)
        self._task: asyncio.Task[None] | None = None
        self._listening = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        self._listening.callback(self._wakeup.listen(LOG, lambda hint: self._woken.set()))
        self._end = await log.head()
        self._listening.callback(self._wakeup.take(self._take))
        self._task = detached(self._run(), name="dispatcher")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Ends every reader."""
        self._listening.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for reader in {reader for topic in self._topics.values() for reader in topic.readers}:
            reader.close()

    async def subscribe(self, *topics: Topic, after: int | None = None, only: Filter | None = None) -> "Reader":
        """A reader of what comes after position `after`; without one, of everything committed once this has returned.

        An `after` that a client gave must have passed log.check_cursor(). Close the reader, or use it as a context manager.
        """
        reader = self.read_on(*topics, after=after or 0, only=only)
        try:
            if after is None:  # not our own last position: it may lag behind what the caller has already seen in the database
                reader.position = (await log.head()).position
        except BaseException:
            reader.close()
            raise
        return reader

    def read_on(self, *topics: Topic, after: int, only: Filter | None = None) -> "Reader":
        """A reader that goes on behind a position another one has reached."""
        assert topics
        reader = Reader(self, topics, only or Filter())
        reader.position = after
        for name in topics:
            self._topics.setdefault(name, _Topic(self.position)).readers.add(reader)
        return reader

    @property
    def position(self) -> int:
        """Everything up to here has been handed to the topics, and can be seen in the database."""
        return self._end.position

    # ── reading the log ──
    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        look_at = 0.0
        while True:
            self._woken.clear()
            try:
                if clock() >= look_at:
                    await self._look_at_the_ground()
                    look_at = clock() + LOOK_S
                await self._catch_up()
            except FAILURES as error:
                look_at = 0.0
                logger.warning("The log cannot be read: %s: %s", type(error).__name__, error)
                await asyncio.sleep(AGAIN_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()

    async def _catch_up(self) -> None:
        while True:
            page = await log.read_after(self.position)
            if page.purged_through > self.position:
                self._lose_through(page.purged_through)
            unseen = page.entries[bisect_right(page.entries, self.position, key=_position) :]  # some may have been taken meanwhile
            if unseen and unseen[0].epoch != self._end.epoch:  # which must be told before they hide it, and without taking them along
                self._begin_again(Gap(GapReason.RESTORED, self._end, await log.head(through=self.position)))
            if unseen:
                self._spread(unseen)
            if not page.is_cut:
                return

    def _take(self, entries: Sequence[Entry]) -> bool:
        """What this process has just committed, without reading it again, if it follows what was read last.

        Each position is given to one entry, so behind ours nobody else's can be missing before a position that is ours plus one.
        """
        first, last = entries[0], entries[-1]
        follows = first.position == self.position + 1 and first.epoch == self._end.epoch
        if follows and last.position == self.position + len(entries):
            self._spread(list(entries))
            return True
        return last.position <= self.position

    async def _look_at_the_ground(self) -> None:
        """A database put back to an earlier time under our feet would give its next entries positions we think we have read."""
        found = await log.check_cursor(self._end)
        if isinstance(found, Gap) and found.reason is GapReason.RESTORED:
            self._begin_again(found)

    def _spread(self, entries: list[Entry]) -> None:
        touched: set[_Topic] = set()
        for entry in entries:
            names = (WHOLE_LOG, entry.product_number, entry.device_id or "")
            topics = [topic for topic in map(self._topics.get, names) if topic is not None]
            for topic in topics:
                topic.entries.append(entry)
                touched.add(topic)
            if topics:
                self._ring.append(entry)
                self._ring_bytes += len(entry.data or "")
        self._end = entries[-1].cursor
        if len(self._ring) > self._ring_size * 1.1 or self._ring_bytes > RING_BYTES * 1.1:
            self._forget()
        for topic in touched:
            topic.wake()

    def _forget(self) -> None:
        """The oldest, until neither bound is passed."""
        count = max(0, len(self._ring) - self._ring_size)
        self._ring_bytes -= sum(len(entry.data or "") for entry in self._ring[:count])
        while self._ring_bytes > RING_BYTES:
            self._ring_bytes -= len(self._ring[count].data or "")
            count += 1
        dropped, self._ring = self._ring[:count], self._ring[count:]
        for name in {WHOLE_LOG} | {entry.product_number for entry in dropped} | {entry.device_id or "" for entry in dropped}:
            if name in self._topics:
                self._topics[name].forget_through(dropped[-1].position)

    def _lose_through(self, position: int) -> None:
        """Purged before we read it: readers must find the gap by themselves, in the database."""
        self._end = Cursor(self._end.epoch, position, 0)
        for topic in self._topics.values():
            topic.floor = max(topic.floor, position)
            topic.wake()

    def _begin_again(self, gap: Gap) -> None:
        logger.warning("The database was restored: every stream is told of a gap.")
        self._end = gap.to
        self._ring.clear()
        self._ring_bytes = 0
        for topic in self._topics.values():
            topic.entries.clear()
            topic.floor = gap.to.position
            for reader in topic.readers:
                reader.begin_again(gap)

    # ── for readers ──
    def topic(self, name: Topic) -> "_Topic":
        return self._topics[name]

    def leave(self, reader: "Reader") -> None:
        for name in reader.topics:
            topic = self._topics.get(name)
            if topic is not None:
                topic.readers.discard(reader)
                if not topic.readers:
                    del self._topics[name]


class _Topic:
    """What is in memory of one topic: everything after `floor`."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.entries: list[Entry] = []
        self.readers: set[Reader] = set()

    def after(self, position: int) -> list[Entry]:
        """One page."""
        start = bisect_right(self.entries, position, key=_position)
        return one_page(self.entries[start : start + PAGE])

    def forget_through(self, position: int) -> None:
        count = bisect_right(self.entries, position, key=_position)
        if count:
            # The last one of its own, not `position`: a reader with nothing to read in between stays in memory.
            self.floor = self.entries[count - 1].position
            del self.entries[:count]

    def wake(self) -> None:
        for reader in self.readers:
            reader.woken.set()


class Reader:
    """One subscription's place in the log. Read by one task; closing it from another one ends the reading."""

    def __init__(self, dispatcher: Dispatcher, topics: tuple[Topic, ...], only: Filter) -> None:
        self.topics = topics
        self.position = 0
        self.woken = asyncio.Event()
        self._dispatcher = dispatcher
        self._only = only
        self._gap: Gap | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[list[Entry] | Gap]:
        while (found := await self.next()) is not None:
            yield found

    async def next(self, *, wait: bool = True) -> list[Entry] | Gap | None:
        """The next entries in order, at most a page of them; or a gap, after which it goes on; None once it is closed.

        Without `wait` no entries at all where nothing in memory is left to read. A database that does not answer is asked again until
        it does.
        """
        while not self._closed:
            self.woken.clear()
            if self._gap is not None:
                gap, self._gap = self._gap, None
                return gap
            before = self.position
            if before < max(self._dispatcher.topic(name).floor for name in self.topics):
                found = await self._from_database()
            else:
                found = self._from_memory()
                if self.position == before:
                    if not wait:
                        return []
                    await self.woken.wait()
            if found:
                return found
        return None

    def close(self) -> None:
        self._closed = True
        self.woken.set()
        self._dispatcher.leave(self)

    def begin_again(self, gap: Gap) -> None:
        self._gap = gap
        self.position = gap.to.position
        self.woken.set()

    def _from_memory(self) -> list[Entry]:
        slices = [self._dispatcher.topic(name).after(self.position) for name in self.topics]
        entries = slices[0]
        if len(slices) > 1:
            merged = {entry.position: entry for entry in heapq.merge(*slices, key=_position)}  # one may be in two topics
            entries = one_page(list(merged.values()))
        if entries:
            self.position = entries[-1].position
        return [entry for entry in entries if self._only.takes(entry)]

    async def _from_database(self) -> list[Entry] | Gap:
        start = self.position
        through = self._dispatcher.position  # before the query: all of it will be seen by the query
        named = () if WHOLE_LOG in self.topics else self.topics
        try:
            page = await log.read_after(
                start,
                product_numbers=[name for name in named if isinstance(name, int)],
                device_ids=[name for name in named if isinstance(name, str)],
                kinds=self._only.kinds,
                name_prefix=self._only.name_prefix,
            )
            if page.purged_through > start and self._gap is None:
                return await self._purged(start, page.purged_through)
        except FAILURES as error:
            logger.warning("A stream waits for the database: %s: %s", type(error).__name__, error)
            await asyncio.sleep(AGAIN_S)
            return []
        if self._gap is not None:  # the database was restored meanwhile
            return []
        last = page.entries[-1].position if page.entries else start
        self.position = last if page.is_cut else max(last, through)
        return [entry for entry in page.entries if self._only.takes(entry)]

    async def _purged(self, start: int, purged_through: int) -> Gap:
        epoch = (await log.state()).epoch
        self.position = purged_through
        return Gap(GapReason.RETENTION, Cursor(epoch, start, 0), Cursor(epoch, purged_through, 0))
