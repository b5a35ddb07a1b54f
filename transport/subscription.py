"""One subscription on its wire: alone at its own pace until nothing is left to read, then in a stream with the others, and back again."""

import asyncio
import logging
from collections.abc import Hashable, Sequence
from contextlib import aclosing

from graphql import GraphQLError

from models.transaction import detached
from realtime.cursor import Cursor, Gap
from realtime.fanout import Fanout
from realtime.log import FAILURES, Entry
from realtime.sources import Item, Level, Message, Source
from realtime.stream import Stream
from schema.messages import AtOnce
from transport.documents import Subscribed
from transport.gate import json_bytes
from transport.masking import Answer, Masking
from transport.sharing import Likeness
from transport.wire import RawWire, Wire

log = logging.getLogger(__name__)


class Refused(Exception):
    """The operation cannot go on; what its client is told."""

    def __init__(self, errors: list[Answer]) -> None:
        super().__init__(errors)
        self.errors = errors


def is_away(errors: Sequence[GraphQLError] | None) -> bool:
    """Whether it failed for want of the database, and so may be asked again."""
    return any(isinstance(error.original_error, FAILURES) for error in errors or ())


async def payload_of(subscribed: Subscribed, message: object, masking: Masking) -> Answer:
    """One message as its client gets it. Raises Refused; ConnectionError while the database is away."""
    result = await subscribed.execute(message)
    payload = masking.payload(result)
    if "data" not in payload and is_away(result.errors):
        raise ConnectionError("The database is away.")
    if "data" not in payload:
        raise Refused(payload["errors"])  # type: ignore[arg-type]  # a list of entries
    return payload


class Subscription:
    """A follower of the log. `ident` is the operation's id as JSON; `last` is the cursor of the last message written."""

    def __init__(
        self,
        source: Source,
        subscribed: Subscribed,
        alike: Likeness,
        *,
        wire: Wire,
        fanout: Fanout,
        masking: Masking,
        ident: bytes = b"",
    ) -> None:
        self.source = source
        self.wire = wire
        self.ident = ident
        self.lane = wire.lane(ident)
        self.last: Cursor | None = None
        if isinstance(wire, RawWire):
            self.write_frames = wire.write_frames
        self._subscribed = subscribed
        self._alike = alike
        self._fanout = fanout
        self._masking = masking
        self._write_at_once: AtOnce | None = None  # once it is known
        self._stream: Stream | None = None
        self._sent_away = asyncio.Event()
        self._begin: int | Gap | None = None
        self._error: Exception | None = None

    @property
    def view(self) -> Hashable:
        return self.source.view(looks=self._alike.looks)

    async def run(self) -> None:
        """Until the source ends. Raises what ends the subscription: Refused, or a CallerError once the viewer may no longer follow."""
        is_slow, named = False, self.source.named
        if named is not None:
            named.watch(lambda: self.sent, self.wire.mark, self._end_with)
        try:
            while await self._at_own_pace(is_slow):
                await self._sent_away.wait()
                is_slow = self.wire.is_full
                self.leave()
                if self._error:
                    raise self._error
        finally:
            self.leave()
            if named is not None:
                await asyncio.shield(detached(self.source.release(), name="release of a named stream"))

    async def _at_own_pace(self, is_slow: bool) -> bool:
        """Read alone until a stream takes it in; False at the end of everything."""
        async with aclosing(self.source.read(self._begin, is_slow=is_slow)) as parts:
            async for part in parts:
                await self.wire.drained()
                if self._error:
                    raise self._error
                if not isinstance(part, Level):
                    await self._tell(part)
                elif self._join(part.position):
                    return True
        return False

    async def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            item = await self._item(message)
            await self.wire.drained()
            self.lane.write((self,), (item,))
            self.last = item.cursor

    # ── in a stream ──
    def _join(self, position: int) -> bool:
        self._sent_away.clear()
        self._stream = self._fanout.join(self._alike.key, self, position)
        return self._stream is not None

    def full(self) -> None:
        """The wire is: it goes on at the pace at which its client reads."""
        if self._stream is not None:
            self._stream.let_go(self)

    def leave(self) -> None:
        """Nothing more is written to it after this, unless it goes on by itself."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self.last = self._newest(stream)
            place = stream.leave(self)
            self._begin = self._begin if place is None else place

    def recall(self, begin: int | Gap, error: Exception | None = None) -> None:
        self._begin, self._error = begin, error
        self._sent_away.set()

    async def prepare(self, entries: Sequence[Entry]) -> list[Item]:
        """Those of the entries that it is shown, as every follower of the stream gets them."""
        return [await self._item(message) for message in await self.source.messages(entries)]

    def prepare_at_once(self, messages: Sequence[Message]) -> list[Item] | None:
        """The same of messages at hand; None where something has to be waited for, or graphql-core has to answer."""
        write = self._write_at_once
        if write is None:
            write = self._write_at_once = self._subscribed.writes_at_once()
            if write is None:
                return None
        try:
            return [Item(message.cursor, json_bytes({"data": write(message)})) for message in messages]
        except Exception as surprise:  # whatever it is, graphql-core meets it too, and says it in its words
            log.debug("graphql-core answers instead: %r", surprise)
            return None

    @property
    def sent(self) -> Cursor | None:
        """The cursor of the last message written to the wire."""
        return self.last if self._stream is None else self._newest(self._stream)

    def _end_with(self, error: Exception) -> None:
        """Wherever it is: in a stream, or at its own pace."""
        self._error = error
        self._sent_away.set()

    def _newest(self, stream: Stream) -> Cursor | None:
        known = [cursor for cursor in (self.last, stream.last) if cursor is not None]
        return max(known, key=lambda cursor: cursor.position, default=None)

    async def _item(self, message: Message) -> Item:
        self.source.before_message()
        return Item(message.cursor, json_bytes(await payload_of(self._subscribed, message, self._masking)))
