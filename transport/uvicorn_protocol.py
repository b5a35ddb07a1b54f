"""uvicorn's connections with an end: peers that stall, trickle or fall silent are cut off, whatever they hold back."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request

from gateway.upgrade import HEAD_S, DevicesBesideHttp, FirstBytes
from transport.leaving import LEAVING
from transport.wire import ABORT, FRAMES

log = logging.getLogger(__name__)

STALLED_S = 30.0  # with unsent bytes above the transport's mark; of sockets it is a setting
LAST_WORD_S = 1.0  # of that time, for the close frame of a socket that has stalled
TOO_SLOW = 1013
GOODBYE_S = 2.0  # from our close to the abort
BODY_S = 15.0  # window in which a body must bring BODY_MIN bytes
BODY_MIN = 15 << 10
DISCARD_MAX = 32 << 20  # bytes of a refused body that are read away so that the peer sees the refusal
FRAGMENTS_MAX = 1024  # of one socket message; empty ones cost memory and no bytes


class FiniteWebSocket(WebSocketsSansIOProtocol):
    """A socket that always ends: on a missing pong, a stalled reader or shutdown the connection is aborted, never awaited.

    Offers `scope["extensions"]["flotilla.abort"]` to the application, and itself as "flotilla.frames": whoever has finished frames may
    write them past everything else.
    """

    stalled_s = STALLED_S

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._stalled: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self.on_full: Callable[[], None] = _nothing
        self._pings = self._pongs = 0  # one is under way at a time, so the newest pong answers the newest ping
        self._is_ping_due = False

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions = cast("dict[str, object]", self.scope["extensions"])
            extensions[ABORT] = self.transport.abort
            if not self.conn.extensions:  # a frame finished elsewhere is not compressed
                extensions[FRAMES] = self

    # ── finished frames ──
    @property
    def write_frames(self) -> Callable[[bytes], None]:
        return self.transport.write

    @property
    def is_full(self) -> bool:
        return not self.writable.is_set()

    async def drained(self) -> None:
        await self.writable.wait()

    def mark(self) -> Callable[[], bool]:
        """Answered by the pong to a ping sent behind all that was written: a peer answers in order, through every proxy between."""
        wanted = self._pings + 1
        self._is_ping_due = True
        if self.ping_timer is not None and self.pong_timer is None:
            self.ping_timer.cancel()
            self.send_keepalive_ping()
        return lambda: self._pongs >= wanted

    def send_keepalive_ping(self) -> None:
        self._pings += 1
        self._is_ping_due = False
        super().send_keepalive_ping()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        if self.pending_ping_payload is None:
            self._pongs = self._pings
            if self._is_ping_due and self.ping_timer is not None:
                self.ping_timer.cancel()
                self.send_keepalive_ping()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS_MAX:
            self._refuse(1009, "too many fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._refuse(1007, "not UTF-8")  # stock does the same with a trace in the log
                return
        super().send_receive_event_to_app()

    def _refuse(self, code: int, reason: str) -> None:
        log.info("socket message refused: %s", reason)
        self.frames = []
        if not self.close_sent:
            self.conn.send_close(code, reason)
            self.handle_parser_exception()

    def keepalive_timeout(self) -> None:
        # A frame would wait behind what the peer does not read; and 1006 brings a client that slept back, where 1011 is fatal to it.
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(max(self.stalled_s - LAST_WORD_S, 0.0), self._give_up)
        self.on_full()

    def _give_up(self) -> None:
        """One that reads a little learns why, past everything that waits to be sent; one that reads nothing is reset a second later."""
        if not self.close_sent and not self.transport.is_closing():
            self.queue.put_nowait({"type": "websocket.disconnect", "code": TOO_SLOW, "reason": "Too slow"})
            self.conn.send_close(TOO_SLOW, "Too slow")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()
        self._end_within(LAST_WORD_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stalled)

    def shutdown(self) -> None:
        super().shutdown()
        self._leave()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._leave()

    def _leave(self) -> None:
        if self._end is None and not self.disconnected:
            self._end_within(GOODBYE_S)

    def _end_within(self, seconds: float) -> None:
        _cancel(self._end)
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._stalled)
        _cancel(self._end)
        self.on_full = _nothing
        if hasattr(self, "scope"):
            for name in (ABORT, FRAMES):  # or the two keep each other alive until a full collection
                cast("dict[str, object]", self.scope["extensions"]).pop(name, None)
        super().connection_lost(exc)


def finite_websocket(stalled_s: float) -> type[FiniteWebSocket]:
    """The class to give uvicorn as `ws=`, which makes the connections itself and knows nothing of our settings."""
    return type("FiniteWebSocket", (FiniteWebSocket,), {"stalled_s": stalled_s})


class FiniteHttp(DevicesBesideHttp):
    """HTTP whose heads, bodies and readers have a time: a head comes within 15 s, a body at 1 KiB/s, an answer is read on.

    Offers `scope["extensions"]["flotilla.leaving"]` to the application: a function that takes what to call when the client has left.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head: asyncio.TimerHandle | None = None
        self._body: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._arrived = 0  # bytes of the body in the current window
        self._discarded = 0
        self._when_left: Callable[[], None] = _nothing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the stock class
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._head is None and self._body is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        super().data_received(data)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def on_headers_complete(self) -> None:
        _cancel(self._head)
        self._head = None
        super().on_headers_complete()
        cast("dict[str, object]", self.scope)["extensions"] = {LEAVING: self._call_when_left}
        self._discarded = 0
        self._await_body()

    def _await_body(self) -> None:
        _cancel(self._body)
        self._arrived = 0
        self._body = self.loop.call_later(BODY_S, self._judge_body)

    def _judge_body(self) -> None:
        if self._arrived < BODY_MIN and not self.flow.read_paused:
            self.transport.abort()
        else:
            self._await_body()

    def on_body(self, body: bytes) -> None:
        self._arrived += len(body)
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > DISCARD_MAX:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        _cancel(self._body)
        self._body = None
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._cancel_all()
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # as at the end of a connection: the two would keep each other

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stalled)
        self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_all()
        super().connection_lost(exc)
        self._when_left()

    def _call_when_left(self, call: Callable[[], None] | None) -> None:
        self._when_left = call or _nothing

    def _cancel_all(self) -> None:
        for timer in (self._head, self._body, self._stalled):
            _cancel(timer)
        self._head = self._body = self._stalled = None


class FirstOrHttp(FirstBytes):
    """What a connection of ours begins as; to be given to uvicorn as `http=`."""

    __slots__ = ()
    http = FiniteHttp


def _nothing() -> None:
    pass


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    """Stop a timer."""
    if timer:
        timer.cancel()
