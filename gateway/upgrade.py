"""How a device's upgrade is recognized, answered and handed to the gateway, past everything HTTP would do with it.

A connection begins as `FirstBytes`, before there is any HTTP: an upgrade of /device that comes whole, as all do, costs no parser and no
scope. Whatever else comes is HTTP's from its first byte on; an upgrade of /device in pieces, or with anything unusual, is told by HTTP.
The gateway is found in the state of the ASGI lifespan, under GATEWAY.
Source: RFC 6455, section 4.2; performance, "storm".
"""

import asyncio
import re
from collections.abc import MutableSet
from functools import lru_cache
from typing import Any, ClassVar, Final, cast

from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from websockets.utils import accept_key

from gateway.protocol import SUBPROTOCOL
from gateway.server import Gateway
from gateway.socket import DeviceSocket

GATEWAY: Final = "flotilla.gateway"
PATH: Final = b"/device"
HEAD_S: Final = 15.0  # for the first bytes of a connection
HEAD_MAX_BYTES: Final = 1 << 12  # a longer head is HTTP's to read
_WHOLE: Final = re.compile(rb"GET /device HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n")
_UNUSUAL: Final = (b"content-length", b"transfer-encoding", b"expect")
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_KEY_LINE: Final = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^ \t\r\n]*)[ \t]*\r\n", re.IGNORECASE)
Headers = dict[bytes, bytes]


class FirstBytes(asyncio.Protocol):
    """A connection of which nothing was heard yet; `http` is what it becomes unless a device is behind it."""

    __slots__ = ("_among", "_config", "_head", "_loop", "_state", "_transport")
    http: ClassVar[type[HttpToolsProtocol]]

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._config = config
        self._among = server_state
        self._state = app_state
        self._loop = _loop or asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._head = self._loop.call_later(HEAD_S, self._transport.abort)
        cast("MutableSet[Any]", self._among.connections).add(self)

    def data_received(self, data: bytes) -> None:
        self.connection_lost(None)
        gateway, headers = self._state.get(GATEWAY), whole_upgrade(data)
        if gateway is not None and headers is not None:
            forwarded = headers.get(b"x-forwarded-for")
            _answer(self._transport, headers, gateway, self._among, self._config.loaded_app, forwarded)
            return
        protocol = self.http(self._config, self._among, self._state, self._loop)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        cast("MutableSet[Any]", self._among.connections).discard(self)

    def shutdown(self) -> None:
        """uvicorn ends, and there is nobody to say goodbye to."""
        self._transport.close()


class DevicesBesideHttp(HttpToolsProtocol):
    """HTTP that hands devices over to the gateway; where there is none, the path is as any other."""

    def handle_websocket_upgrade(self) -> None:
        gateway = self.app_state.get(GATEWAY)
        if gateway is None or self.url.partition(b"?")[0] != PATH:
            super().handle_websocket_upgrade()
            return
        self.connections.discard(self)
        headers = dict(self.headers)
        forwarded = b", ".join(value for name, value in self.headers if name == b"x-forwarded-for")
        refusal = "This is no WebSocket handshake of version 13." if self.scope["method"] != "GET" else None
        _answer(self.transport, headers, gateway, self.server_state, self.app, forwarded, refusal)


def whole_upgrade(data: bytes) -> Headers | None:
    """The headers, names in lower case, of a device's upgrade that is nothing but that; None for all else."""
    key = _KEY_LINE.search(data) if len(data) <= HEAD_MAX_BYTES else None
    if key is None:
        return None
    headers = _headers(data[: key.start(1)] + data[key.end(1) :])
    return None if headers is None else headers | {b"sec-websocket-key": key[1]}


@lru_cache(maxsize=256)
def _headers(data: bytes) -> Headers | None:
    """Remembered: but for their keys, the devices of a fleet all say the same."""
    head = _WHOLE.fullmatch(data)
    if head is None:
        return None
    lines = head[1].split(b"\r\n")
    headers = {name.lower(): value.strip(b" \t") for name, _, value in (line.partition(b":") for line in lines[:-1])}
    is_usual = len(headers) == len(lines) - 1 and not any(name in headers for name in _UNUSUAL)
    wants = [token.strip() for token in headers.get(b"connection", b"").lower().split(b",")]
    return headers if is_usual and b"upgrade" in wants and headers.get(b"upgrade", b"").lower() == b"websocket" else None


def _answer(
    transport: asyncio.Transport,
    headers: Headers,
    gateway: Gateway[Any],
    state: ServerState,
    app: object,
    forwarded: bytes | None,
    refusal: str | None = None,
) -> None:
    refusal = refusal or _why_not(headers)
    if refusal is not None:
        transport.write(_refused(refusal))
        transport.close()
        return
    socket = DeviceSocket(transport, cast("MutableSet[Any]", state.connections), _accepted(headers[b"sec-websocket-key"]))
    transport.set_protocol(socket)
    socket.begin(gateway, _address(transport, app, forwarded))


def _address(transport: asyncio.Transport, app: object, forwarded: bytes | None) -> str | None:
    """Of the device, also behind a proxy that is trusted."""
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) else None
    if not forwarded or not isinstance(app, ProxyHeadersMiddleware) or address not in app.trusted_hosts:
        return address
    return app.trusted_hosts.get_trusted_client_address(forwarded.decode("latin1"))[0] or address


# ── bytes ──
def _why_not(headers: Headers) -> str | None:
    """Why this upgrade is refused, as a sentence."""
    is_key = _KEY.fullmatch(headers.get(b"sec-websocket-key", b""))
    if headers.get(b"sec-websocket-version") != b"13" or not is_key:
        return "This is no WebSocket handshake of version 13."
    if SUBPROTOCOL.encode() not in [offered.strip() for offered in headers.get(b"sec-websocket-protocol", b"").split(b",")]:
        return f"Ask for the subprotocol {SUBPROTOCOL}."
    return None


def _refused(sentence: str) -> bytes:
    head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nsec-websocket-version: 13\r\nconnection: close\r\n"
    return f"{head}content-length: {len(sentence) + 1}\r\n\r\n{sentence}\n".encode()


def _accepted(key: bytes) -> bytes:
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key.decode())}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode()
