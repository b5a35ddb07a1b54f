"""A subscription's results as server-sent events: graphql-sse's distinct connections mode, for whoever cannot open a socket."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from transport import metrics
from transport.gate import EVENT_STREAM
from transport.masking import Answer
from transport.sockets import Sockets

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0  # of silence; then a comment, so that nothing between takes the connection for dead
CLOSE_S = 1.0  # what a peer has to take the end of the stream
COMPLETE = b"event: complete\ndata:\n\n"  # the empty `data:` makes EventSource tell its listener
COMMENT = b":\n\n"


def event(payload: Mapping[str, object]) -> bytes:
    """One result as a `next` event; its `id` is the cursor of the message, if that has one."""
    cursor = _cursor(payload)
    name = f"id: {cursor}\n" if cursor else ""
    return f"event: next\n{name}data: {json.dumps(payload, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def whole(payload: Mapping[str, object]) -> bytes:
    """The stream of an operation with one result."""
    return event(payload) + COMPLETE


def _cursor(payload: Mapping[str, object]) -> str | None:
    data = payload.get("data")
    messages = list(data.values()) if isinstance(data, dict) else []
    cursor = messages[0].get("cursor") if len(messages) == 1 and isinstance(messages[0], dict) else None
    # Another field may have been given this name: what it holds must not break out of its line.
    return cursor if isinstance(cursor, str) and cursor.isascii() and cursor.isprintable() else None


class EventStream(Response):
    """Sends `results` as they come, and stands among the open sockets: it counts like one and is sent away like one.

    It ends with a `complete` event when the results do. When it is sent away, or its token expires, it ends without: its client
    comes back and goes on behind the last `id` it heard.
    """

    def __init__(
        self,
        results: AsyncGenerator[Answer, None],
        *,
        sockets: Sockets,
        address: str,
        viewer_key: str | None,
        expires_at: datetime | None,
        headers: Mapping[str, str],
    ) -> None:
        no_buffers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=no_buffers | dict(headers), media_type=f"{EVENT_STREAM}; charset=utf-8")
        del self.headers["content-length"]
        self.address = address
        self.viewer_key = viewer_key
        self._results = results
        self._sockets = sockets
        self._expires_at = expires_at
        self._sent_away = asyncio.Event()
        self._last_sent = 0.0

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
        """Whichever comes first: the results end, the client leaves, it is sent away, its token expires."""
        pump = asyncio.ensure_future(self._pump(send))
        working = [pump, *map(asyncio.ensure_future, (self._beat(send), _until_gone(receive), self._sent_away.wait()))]
        try:
            await asyncio.wait(working, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in working:
                task.cancel()
            await asyncio.wait(working, timeout=5)
        error = pump.exception() if pump.done() and not pump.cancelled() else None
        if error:
            log.error("a stream of events failed", exc_info=error)

    def _seconds_left(self) -> float | None:
        return max((self._expires_at - datetime.now(UTC)).total_seconds(), 0.0) if self._expires_at else None

    async def _pump(self, send: Send) -> None:
        await self._send(send, COMMENT)  # so that the client, and what is between, know at once that the stream stands
        async with aclosing(self._results) as results:
            async for payload in results:
                await self._send(send, event(payload))
        await self._send(send, COMPLETE)

    async def _beat(self, send: Send) -> None:
        while True:
            silent_s = time.monotonic() - self._last_sent
            if silent_s < HEARTBEAT_S:
                await asyncio.sleep(HEARTBEAT_S - silent_s)
            else:
                await self._send(send, COMMENT)

    async def _send(self, send: Send, text: bytes) -> None:
        self._last_sent = time.monotonic()
        await send({"type": "http.response.body", "body": text, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
