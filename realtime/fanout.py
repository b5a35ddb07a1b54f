"""From one reading of the log to every socket that follows a topic.

A follower reads the log at its own pace until nothing in memory is left to read; then it joins the stream of its key, with all who would
get the same answers. It leaves again when its socket is full, at a gap, and when what it may see changes, and goes on by itself from the
place it was at. The streams of a topic are in step: what one reading finds is handed to one after the other. A stream that has to wait
does so aside and holds nobody up.
Source: realtime, "Fan-out: one execution, many sockets".
"""

import asyncio
import logging
from collections.abc import Hashable, Iterator, Sequence
from typing import Self

from models.transaction import detached
from realtime.cursor import Gap
from realtime.dispatcher import Dispatcher, Topic
from realtime.log import Entry
from realtime.sources import RECHECK_S, Follower, Message
from realtime.stream import Stream, look

logger = logging.getLogger(__name__)

TICK_S = 0.005  # the longest that a message waits for others, to be written with them in one go
TURN_S = 0.002  # a reading hands on to streams for so long; then everything else in the process has its turn
REST_MIN_S = 0.0005  # a shorter rest costs more than what would come in it


class Fanout:
    """The streams of a process; a context manager.

    What comes during a round of writes waits for more, to be written with it in one go: for `rest` times as long as the round took, and
    at most for `tick_s`. So few followers hardly wait, however many there are each write has more to write, and what comes alone is
    written at once.
    """

    def __init__(self, dispatcher: Dispatcher, *, tick_s: float = TICK_S, rest: float = 1.0) -> None:
        self.dispatcher = dispatcher
        self.tick_s = tick_s
        self.rest = rest
        self._topics: dict[Topic, Reading] = {}
        self._streams: dict[Hashable, Stream] = {}
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = detached(self._watch(), name="authority of streams")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks = [reading.task for reading in self._topics.values()]
        tasks += [task for task in (self._watching, *(stream.aside for stream in self._streams.values())) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._streams)

    def join(self, key: Hashable, follower: Follower, position: int) -> Stream | None:
        """Put a follower that has had everything up to `position` into the stream of its key; None where the stream is further."""
        key = (key, follower.view)
        stream = self._streams.get(key) or self._begin(key, follower, position)
        return stream if stream.join(follower, position) else None

    def _begin(self, key: Hashable, follower: Follower, position: int) -> Stream:
        topic = follower.source.topic
        reading = self._topics.get(topic)
        if reading is None:
            reading = self._topics[topic] = Reading(self, topic, position)
        stream = self._streams[key] = Stream(key, follower, position, reading)
        reading.add(stream)
        return stream

    def forget(self, stream: Stream) -> None:
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]

    def forget_topic(self, reading: "Reading") -> None:
        if self._topics.get(reading.topic) is reading:
            del self._topics[reading.topic]

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            begun = clock()
            try:
                await look(list(self._streams.values()))
            except Exception:  # what is known of their viewers gets stale now, and gives out nothing
                logger.exception("The authority of streams could not be looked at.")
            await asyncio.sleep(max(begun + RECHECK_S - clock(), RECHECK_S / 8))


class Reading:
    """The one reading of the log for all streams of a topic. It lives as long as there is one."""

    def __init__(self, fanout: Fanout, topic: Topic, position: int) -> None:
        self.topic = topic
        self.position = position  # everything up to here has been handed to the streams in step, or is about to be
        self._fanout = fanout
        self._streams: dict[Hashable, dict[Stream, None]] = {}  # by what makes them alike
        self._reader = fanout.dispatcher.read_on(topic, after=position)
        self._clock = asyncio.get_running_loop().time
        self.task = detached(self._run(), name="reading of a topic")

    @property
    def dispatcher(self) -> Dispatcher:
        return self._fanout.dispatcher

    def add(self, stream: Stream) -> None:
        self._streams.setdefault(stream.alike, {})[stream] = None
        stream.fall_in()

    def forget(self, stream: Stream) -> None:
        self._fanout.forget(stream)
        alike = self._streams.get(stream.alike, {})
        alike.pop(stream, None)
        if not alike:
            self._streams.pop(stream.alike, None)
        if not self._streams:
            self._reader.close()
            self._fanout.forget_topic(self)

    async def rest(self, worked_s: float) -> None:
        """After so much of work."""
        rest_s = min(worked_s * self._fanout.rest, self._fanout.tick_s)
        if rest_s >= REST_MIN_S:
            await asyncio.sleep(rest_s)

    async def _run(self) -> None:
        try:
            while (found := await self._reader.next()) is not None:
                begun = self._clock()
                self.position = self._reader.position
                if isinstance(found, Gap):
                    self._break_off(found)
                else:
                    await self._hand_on(found)
                if self._reader.woken.is_set():
                    await self.rest(self._clock() - begun)
        except Exception:
            logger.exception("The reading of a topic failed; all who follow it go on alone.")
        finally:
            for stream in self._all():
                stream.disband()

    def _break_off(self, gap: Gap) -> None:
        """Those aside find it by themselves."""
        for stream in self._all():
            if stream.is_in_step:
                stream.break_off(gap)

    def _all(self) -> list[Stream]:
        return [stream for alike in self._streams.values() for stream in alike]

    async def _hand_on(self, entries: Sequence[Entry]) -> None:
        """One round. Who joins in the midst of it has had these, or reads them aside."""
        through, now = self.position, self._clock()
        turn_ends_at = now + TURN_S
        for stream, messages in self._round(entries):
            try:
                stream.hand_on(messages, through, now)
            except Exception:
                logger.exception("A stream failed; its followers go on alone.")
                stream.disband()
            now = self._clock()
            if now >= turn_ends_at:
                await asyncio.sleep(0)
                now = self._clock()
                turn_ends_at = now + TURN_S

    def _round(self, entries: Sequence[Entry]) -> Iterator[tuple[Stream, Sequence[Message] | None]]:
        """Each stream with what it is to be told, found once for all who are alike; None where they have to wait for it."""
        for alike in list(self._streams.values()):
            streams = list(alike)
            wanted = [entry for entry in entries if streams[0].only.takes(entry)] if streams else []
            messages = streams[0].messages_at_once(wanted) if wanted else []
            for stream in streams:
                yield stream, messages
