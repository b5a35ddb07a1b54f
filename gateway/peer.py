"""uvicorn's WebSocket protocol, which also knows when a peer was last heard and gets rid of one that stopped reading.

Give it to uvicorn as `ws=`. It offers itself to the application as the ASGI extension `flotilla.peer`; under another server the gateway
does without: silence is then noticed by that server's own pings, and a peer that does not read costs its socket until the kernel gives up.
"""

import asyncio
from typing import Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

EXTENSION = "flotilla.peer"
GOODBYE_S = 1.0  # how long a dropped peer has to take the close frame


class Peer(Protocol):
    """What the gateway asks of the transport under a socket. Times are of the event loop's clock."""

    heard_at: float

    def limit_messages(self, max_bytes: int) -> None: ...

    def keep_alive(self, every_s: float) -> None: ...

    def end_within(self, seconds: float) -> None: ...

    def drop(self, code: int, reason: str) -> None: ...


class PeerProtocol(WebSocketsSansIOProtocol):
    """Stock behavior, plus: pongs count as being heard, and no close waits for a peer for ever."""

    heard_at = 0.0
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard_at = self.loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # else the handshake was refused and no application runs
            cast(dict[str, object], self.scope["extensions"])[EXTENSION] = self

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # close() alone would wait until the silent peer has read everything

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        if self.handshake_initiated and hasattr(self, "scope"):
            cast(dict[str, object], self.scope["extensions"]).pop(
                EXTENSION, None
            )  # or the two keep each other alive until a full collection
        super().connection_lost(exc)

    def limit_messages(self, max_bytes: int) -> None:
        """Larger messages end the connection with 1009 before they are in memory."""
        self.conn.max_message_size = max_bytes

    def keep_alive(self, every_s: float) -> None:
        """Ping this often, and take a peer for gone that leaves a ping unanswered for as long; the server's own pace is another."""
        self.ping_interval = self.ping_timeout = every_s

    def end_within(self, seconds: float) -> None:
        """Reset the connection then, if it still stands: for after a close was sent."""
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def drop(self, code: int, reason: str) -> None:
        """Say goodbye past everything that waits to be sent, and reset soon after."""
        if not self.close_sent and not self.transport.is_closing():
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()
        self.end_within(GOODBYE_S)
