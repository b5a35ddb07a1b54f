"""A subscription's results as server-sent events: graphql-sse's distinct connections mode, for whoever cannot open a socket."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from realtime.fanout import Fanout
from realtime.sources import Item, Source
from settings import Settings
from transport import metrics
from transport.context import OperationContext
from transport.documents import Documents, NotBegun, Prepared, Subscribed
from transport.gate import EVENT_STREAM, Asked, json_bytes
from transport.masking import Masking
from transport.sharing import Likeness
from transport.sockets import Sockets
from transport.subscription import Refused, Subscription, payload_of
from transport.wire import QueuedWire, Written

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0  # of silence; then a comment, so that nothing between takes the connection for dead
CLOSE_S = 1.0  # what a peer has to take the end of the stream
COMPLETE = b"event: complete\ndata:\n\n"  # the empty `data:` makes EventSource tell its listener
COMMENT = b":\n\n"


def event(payload: bytes, cursor: str | None) -> bytes:
    """One result as a `next` event; its `id` is the cursor of the message, if that has one."""
    name = b"id: " + cursor.encode() + b"\n" if cursor else b""
    return b"event: next\n" + name + b"data: " + payload + b"\n\n"


def whole(payload: Mapping[str, object]) -> bytes:
    """The stream of an operation with one result."""
    return event(json_bytes(payload), _cursor(payload)) + COMPLETE


def _cursor(payload: Mapping[str, object]) -> str | None:
    data = payload.get("data")
    messages = list(data.values()) if isinstance(data, dict) else []
    cursor = messages[0].get("cursor") if len(messages) == 1 and isinstance(messages[0], dict) else None
    # Another field may have been given this name: what it holds must not break out of its line.
    return cursor if isinstance(cursor, str) and cursor.isascii() and cursor.isprintable() else None


@dataclass(frozen=True, slots=True)
class EventLane:
    """Events are the same for all followers: no operation's id is in them."""

    def write(self, followers: Iterable[Written], items: Sequence[Item]) -> None:
        events = b"".join([event(item.payload, str(item.cursor)) for item in items])
        for follower in followers:
            follower.wire.write(events)


class Door(Protocol):
    """What a stream needs of the door it came through."""

    documents: Documents
    settings: Settings
    masking: Masking
    sockets: Sockets
    fanout: Fanout | None

    def alike(self, asked: Asked, prepared: Prepared) -> Likeness: ...


class EventStream(Response):
    """Sends a subscription's results as they come, and stands among the open sockets: it counts like one and is sent away like one.

    It ends with a `complete` event when the results do. When it is sent away, or its token expires, it ends without: its client
    comes back and goes on behind the last `id` it heard.
    """

    def __init__(
        self, door: Door, asked: Asked, prepared: Prepared, context: OperationContext, *, address: str, headers: Mapping[str, str]
    ) -> None:
        no_buffers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=no_buffers | dict(headers), media_type=f"{EVENT_STREAM}; charset=utf-8")
        del self.headers["content-length"]
        self.address = address
        self.viewer_key, self.seats = context.viewer_key, context.seats
        self._door = door
        self._asked = asked
        self._prepared = prepared
        self._context = context
        self._sockets = door.sockets
        self._sent_away = asyncio.Event()
        self._last_sent = 0.0
        self._subscription: Subscription | None = None

    async def leave(self, code: int, reason: str) -> None:
        """End the stream; HTTP has no word for why."""
        self._sent_away.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._sockets.add(self)
        metrics.STREAMS.inc()
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._until_over(receive, send)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            metrics.STREAMS.dec()
            self._sockets.discard(self)

    async def _until_over(self, receive: Receive, send: Send) -> None:
        """Whichever comes first: the results end, the client leaves or reads nothing, it is sent away, its token expires."""
        wire = QueuedWire(partial(self._send, send), stalled_s=self._door.settings.stalled_reader_s, lane=EventLane())
        wire.on_full = self._full
        wire.write(COMMENT)  # so that the client, and what is between, know at once that the stream stands
        pump = asyncio.ensure_future(self._pump(wire))
        working = [pump, *map(asyncio.ensure_future, (wire.run(), self._beat(wire), _until_gone(receive), self._sent_away.wait()))]
        try:
            await asyncio.wait(working, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._subscription:
                self._subscription.leave()
            for task in working:
                task.cancel()
            await asyncio.wait(working, timeout=5)
        error = pump.exception() if pump.done() and not pump.cancelled() else None
        if error:
            log.error("a stream of events failed", exc_info=error)

    def _seconds_left(self) -> float | None:
        expires_at = self._context.expires_at
        return max((expires_at - datetime.now(UTC)).total_seconds(), 0.0) if expires_at else None

    def _full(self) -> None:
        if self._subscription:
            self._subscription.full()

    async def _pump(self, wire: QueuedWire) -> None:
        """All that the subscription tells; an error that ends it is the last of it."""
        masking = self._door.masking
        try:
            async with self._sockets.turns:
                subscribed = await self._door.documents.subscribe(self._asked, self._prepared, self._context)
            await self._follow(wire, subscribed)
        except Refused as refused:
            wire.write(event(json_bytes({"errors": refused.errors}), None))
        except NotBegun as refused:
            wire.write(event(json_bytes(masking.payload(refused.result)), None))
        except Exception as error:
            wire.write(event(json_bytes({"errors": masking.refusal(error)}), None))
        wire.write(COMPLETE)
        await wire.emptied()

    async def _follow(self, wire: QueuedWire, subscribed: Subscribed) -> None:
        source, fanout, masking = subscribed.source, self._door.fanout, self._door.masking
        if isinstance(source, Source) and fanout is not None:
            alike = self._door.alike(self._asked, self._prepared)
            self._subscription = Subscription(source, subscribed, alike, wire=wire, fanout=fanout, masking=masking)
            await self._subscription.run()
            return
        async with aclosing(aiter(source)) as messages:  # type: ignore[type-var]  # every resolver's is a generator
            async for message in messages:
                payload = await payload_of(subscribed, message, masking)
                await wire.drained()
                wire.write(event(json_bytes(payload), _cursor(payload)))

    async def _beat(self, wire: QueuedWire) -> None:
        while True:
            silent_s = time.monotonic() - self._last_sent
            if silent_s < HEARTBEAT_S:
                await asyncio.sleep(HEARTBEAT_S - silent_s)
            else:
                self._last_sent = time.monotonic()
                wire.write(COMMENT)

    async def _send(self, send: Send, text: bytes) -> None:
        self._last_sent = time.monotonic()
        await send({"type": "http.response.body", "body": text, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
