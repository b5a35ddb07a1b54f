"""A device's WebSocket, directly on uvicorn's transport: one small object a device, no task, no queue, no ASGI in between.

Source: RFC 6455; performance, "devices" and "storm".
"""

import asyncio
import logging
from collections.abc import MutableSet
from typing import TYPE_CHECKING, Any, Final

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # the one in C where there is one

from gateway.protocol import HELLO_FRAME_MAX_BYTES, Closing

if TYPE_CHECKING:
    from gateway.connection import Connection
    from gateway.server import Gateway

logger: Final = logging.getLogger("flotilla.gateway")

OUTGOING_MAX_BYTES: Final = 1 << 18  # waiting for a device that reads slowly; more, and it is closed with 1013
STALLED_S: Final = 30.0  # without progress
CLOSE_TIMEOUT_S: Final = 10.0  # for the peer's answer to our close
GOODBYE_S: Final = 1.0  # how long a dropped peer has to take the close frame
FRAGMENTS_MAX: Final = 1024  # of one message; empty ones cost memory and no bytes
REASON_MAX: Final = 120  # bytes, as a close frame has room for
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL: Final = 0x80
PROTOCOL_ERROR, NOT_UTF8 = 1002, 1007


class DeviceSocket(asyncio.Protocol):
    """The frames of one device. Times are of the event loop's clock."""

    __slots__ = (
        "_among",
        "_end",
        "_fragments",
        "_is_closing",
        "_is_held",
        "_max_bytes",
        "_rest",
        "_stalled",
        "_unsaid",
        "connection",
        "heard_at",
        "loop",
        "transport",
    )

    def __init__(self, transport: asyncio.Transport, among: MutableSet[Any], accepted: bytes) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = transport
        self.heard_at = self.loop.time()
        self.connection: Connection[Any] | None = None
        self._among = among  # uvicorn's connections: what it waits for at its end
        self._unsaid = accepted  # the answer to the upgrade: it goes with the first frame, or each would cost a system call
        self._rest: bytes | bytearray = b""  # of a frame that is not whole yet
        self._fragments: list[bytes] | None = None
        self._max_bytes = HELLO_FRAME_MAX_BYTES
        self._is_held = False
        self._is_closing = False
        self._end: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        among.add(self)

    def begin(self, gateway: "Gateway[Any]", address: str | None) -> None:
        self.connection = gateway.open(self, address)

    # ── what the connection wants ──
    def say(self, text: str) -> None:
        self._write(TEXT, text.encode())
        if self.connection is not None and self.transport.get_write_buffer_size() > OUTGOING_MAX_BYTES:
            self.connection.drop(Closing.OVERLOADED, "read faster")

    def ping(self, payload: bytes) -> None:
        """At most 125 bytes; the pong that repeats them is told to the connection."""
        self._write(PING, payload)

    def hold(self, is_held: bool) -> None:
        """While held, nothing further is heard of the device: what it says waits in its own buffers, once some has come."""
        if is_held == self._is_held or self.transport.is_closing():
            return
        self._is_held = is_held
        if not is_held:
            self.transport.resume_reading()
            self._parse()

    def limit_messages(self, max_bytes: int) -> None:
        """Larger messages end the connection with 1009 before they are in memory."""
        self._max_bytes = max_bytes

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the connection ends with the device's answer, or soon without it."""
        self._write(CLOSE, code.to_bytes(2, "big") + reason.encode()[:REASON_MAX])
        self._is_closing = True
        self._end_within(CLOSE_TIMEOUT_S)

    def drop(self, code: int, reason: str) -> None:
        """Be rid of a device that does not read: nothing that waits has long to be sent any more."""
        if not self._is_closing:
            self.close(code, reason)
        self.transport.close()
        self._end_within(GOODBYE_S)

    def _write(self, kind: int, payload: bytes) -> None:
        if not self._is_closing and not self.transport.is_closing():
            self.transport.write(self._unsaid + _head(kind, len(payload)) + payload)
            self._unsaid = b""

    def _end_within(self, seconds: float) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)

    # ── what uvicorn and the transport tell ──
    def shutdown(self) -> None:
        """The server ends, and the gateway has not been able to say goodbye before."""
        self.drop(Closing.RESTARTING, "restarting")

    def pause_writing(self) -> None:
        self._stalled = self.loop.call_later(STALLED_S, self._stall)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _stall(self) -> None:
        if self.connection is not None:
            self.connection.drop(Closing.OVERLOADED, "read faster")

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.discard(self)
        self.resume_writing()
        if self._end is not None:
            self._end.cancel()
        connection, self.connection = self.connection, None  # or the two keep each other alive until a full collection
        if connection is not None:
            connection.gone()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.heard_at = self.loop.time()
        if self._rest:
            self._rest = self._rest if isinstance(self._rest, bytearray) else bytearray(self._rest)
            self._rest += data
        else:
            self._rest = data
        if self._is_held:
            self.transport.pause_reading()
        else:
            self._parse()

    # ── frames ──
    def _parse(self) -> None:
        """Take every whole frame of what has come; stop where the connection wants a rest."""
        data, at = self._rest, 0
        while not self._is_held:
            end = self._frame(data, at)
            if end is None:
                break
            at = end
        self._rest = data[at:] if at else data

    def _frame(self, data: bytes | bytearray, at: int) -> int | None:
        """Take the frame that begins at `at`; where it ends. None if it is not whole yet, or against the rules: then we have closed."""
        if len(data) - at < 2:
            return None
        first, length, body = data[at], data[at + 1] & 0x7F, at + 6
        if length >= 126:
            size = 2 if length == 126 else 8
            body, length = body + size, int.from_bytes(data[at + 2 : at + 2 + size], "big")
        kind, is_final = first & 0x0F, bool(first & FINAL)
        if first & 0x70 or not data[at + 1] & 0x80 or (kind >= CLOSE and (length > 125 or not is_final)):
            self._refuse(PROTOCOL_ERROR, "not a frame of RFC 6455")
            return None
        if len(data) < body:
            return None
        if kind < CLOSE and length + sum(map(len, self._fragments or ())) > self._max_bytes:
            self._refuse(Closing.TOO_LARGE, f"a frame has at most {self._max_bytes} bytes")
            return None
        if len(data) < body + length:
            return None
        payload = apply_mask(bytes(data[body : body + length]), bytes(data[body - 4 : body]))
        return body + length if self._take(kind, is_final, payload) else None

    def _take(self, kind: int, is_final: bool, payload: bytes) -> bool:
        """Whether to go on reading."""
        if kind == CLOSE:
            self._write(CLOSE, payload[:2])
            self._is_closing = True
            self.transport.close()
            return False
        if self._is_closing or self.connection is None:
            return True  # nothing but its goodbye counts any more
        if kind == PING:
            self._write(PONG, payload)
        elif kind == PONG:
            self.connection.ponged(payload)
        elif kind <= BINARY:
            return self._message(self.connection, kind, is_final, payload)
        else:
            self._refuse(PROTOCOL_ERROR, "an unknown kind of frame")
        return not self._is_closing

    def _message(self, connection: "Connection[Any]", kind: int, is_final: bool, payload: bytes) -> bool:
        if (kind == CONTINUED) != (self._fragments is not None):
            self._refuse(PROTOCOL_ERROR, "fragments out of order")
            return False
        if kind == BINARY:
            connection.close(Closing.MALFORMED, "frames are text")
            return True
        if not is_final or self._fragments is not None:
            fragments = self._fragments = [*(self._fragments or ()), payload]
            if len(fragments) > FRAGMENTS_MAX:
                self._refuse(Closing.TOO_LARGE, "too many fragments")
                return False
            if not is_final:
                return True
            payload, self._fragments = b"".join(fragments), None
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._refuse(NOT_UTF8, "not UTF-8")
            return False
        connection.hear(text)
        return True

    def _refuse(self, code: int, reason: str) -> None:
        """Close for what breaks the frame itself; nothing more of it is read."""
        logger.info("a device's frame was refused: %s", reason)
        self.close(code, reason)
        self.transport.close()


# ── bytes ──
def _head(kind: int, length: int) -> bytes:
    if length < 126:
        return bytes((FINAL | kind, length))
    if length < 1 << 16:
        return bytes((FINAL | kind, 126)) + length.to_bytes(2, "big")
    return bytes((FINAL | kind, 127)) + length.to_bytes(8, "big")
