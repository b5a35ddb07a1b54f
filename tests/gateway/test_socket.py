"""The device's WebSocket frame by frame, as RFC 6455 wants it, whatever the peer sends and in whatever pieces."""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import struct
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway import proofs, protocol, upgrade
from gateway.server import Gateway
from gateway.session import Limits
from gateway.upgrade import DevicesBesideHttp, whole_upgrade
from settings import Settings
from tests.fake_fleet import FakeFleet, serving, until, with_devices
from tests.patience import PATIENCE_S
from tests.raw_device import FAST, ID, KEY, known
from transport.server import config, listen

NONCE_KEY = base64.b64encode(b"0123456789abcdef").decode()
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
HEADERS = {
    "Host": "127.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": NONCE_KEY, "Sec-WebSocket-Protocol": protocol.SUBPROTOCOL,
}  # fmt: skip


def frame(kind: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    first, length = (0x80 if final else 0) | reserved | kind, len(payload)
    size = (
        bytes([length])
        if length < 126
        else b"\x7e" + struct.pack("!H", length)
        if length < 1 << 16
        else b"\x7f" + struct.pack("!Q", length)
    )
    if not masked:
        return bytes([first]) + size + payload
    mask = b"\x12\x34\x56\x78"
    body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes([first]) + bytes([size[0] | 0x80]) + size[1:] + mask + body


class Peer:
    """A TCP connection that says and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def upgrade(self, **changes: str | None) -> str:
        """The head of the answer."""
        headers = {name: value for name, value in (HEADERS | changes).items() if value is not None}
        self.writer.write(
            ("GET /device HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n").encode()
        )
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode()

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            return first, await self.reader.readexactly(length)

    async def word(self) -> dict[str, object]:
        first, payload = await self.frame()
        assert first == 0x80 | TEXT, payload
        said: dict[str, object] = json.loads(payload)
        return said

    async def closed_with(self) -> int:
        """The code of the close that comes after whatever else; then the connection ends."""
        while True:
            first, payload = await self.frame()
            if first == 0x80 | CLOSE:
                self.writer.write(frame(CLOSE, payload))
                assert await asyncio.wait_for(self.reader.read(), PATIENCE_S) == b""
                return int.from_bytes(payload[:2], "big")

    def say(self, data: bytes) -> None:
        self.writer.write(data)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def greeted(limits: Limits = FAST) -> AsyncIterator[Peer]:
    async with serving(known(), limits) as served, connected(served.port) as peer:
        await peer.upgrade()
        nonce = (await peer.word())["nonce"]
        hello = {"type": "hello", "deviceId": ID, "signature": proofs.signature(KEY, str(nonce), ID)}
        peer.say(frame(TEXT, json.dumps(hello).encode()))
        assert (await peer.word())["type"] == "welcome"
        yield peer


async def test_the_handshake_answers_with_the_proof_of_the_key_and_the_subprotocol() -> None:
    async with serving() as served, connected(served.port) as peer:
        head = await peer.upgrade(**{"Sec-WebSocket-Protocol": f"other, {protocol.SUBPROTOCOL}"})

    proof = base64.b64encode(hashlib.sha1(NONCE_KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    assert head.startswith("HTTP/1.1 101 ")
    assert f"sec-websocket-accept: {proof}".lower() in head.lower()
    assert f"sec-websocket-protocol: {protocol.SUBPROTOCOL}" in head.lower()


@pytest.mark.parametrize(
    ("header", "value"),
    [("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "short"), ("Sec-WebSocket-Key", None), ("Sec-WebSocket-Protocol", None)],
)
async def test_another_handshake_is_refused_with_400(header: str, value: str | None) -> None:
    async with serving() as served, connected(served.port) as peer:
        assert (await peer.upgrade(**{header: value})).startswith("HTTP/1.1 400 ")
        assert await asyncio.wait_for(peer.reader.read(), PATIENCE_S)  # a sentence, and the end
        assert served.gateway.connections == set()
        await until(lambda: not served.server.server_state.connections)


async def test_a_ping_is_answered_and_a_text_may_come_in_fragments_with_a_ping_between() -> None:
    async with greeted() as peer:
        said = b'{"type":"ping"}'
        peer.say(frame(TEXT, said[:5], final=False) + frame(PING, b"!") + frame(0, said[5:8], final=False) + frame(0, said[8:]))

        assert await peer.frame() == (0x80 | PONG, b"!")
        assert (await peer.word())["type"] == "pong"


async def test_words_may_come_in_any_pieces() -> None:
    published = [json.dumps({"type": "publish", "id": f"e{n}", "name": "t", "data": "x" * n}).encode() for n in (0, 100, 900)]
    dice = random.Random(1)
    async with greeted() as peer:
        stream = b"".join(frame(TEXT, each) for each in published)
        while stream:
            size = dice.randint(1, 40)
            peer.say(stream[:size])
            await peer.writer.drain()
            await asyncio.sleep(0)
            stream = stream[size:]

        assert {(await peer.word())["id"] for _ in published} == {"e0", "e100", "e900"}


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        (frame(TEXT, b"{}", masked=False), 1002),
        (frame(TEXT, b"{}", reserved=0x40), 1002),
        (frame(0x3), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, final=False), 1002),
        (frame(0, b"{}"), 1002),
        (frame(TEXT, b"{", final=False) + frame(TEXT, b"}"), 1002),
        (frame(TEXT, b'"\xff"'), 1007),
        (frame(TEXT, b"x" * (protocol.FRAME_MAX_BYTES + 1))[:64], 1009),
        (frame(TEXT, b"{", final=False) + frame(0, b"", final=False) * 1024, 1009),
        (frame(BINARY, b"{}"), 4400),
        (frame(TEXT, b"[]"), 4400),
        (frame(CLOSE, struct.pack("!H", 1000)), 1000),
    ],
    ids=str,
)
async def test_what_is_against_the_rules_closes_with_its_code(bytes_: bytes, code: int) -> None:
    async with greeted() as peer:
        peer.say(bytes_)

        assert await peer.closed_with() == code


async def test_no_bytes_at_all_raise_anything(caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(7)
    async with serving(known(), FAST) as served:
        for _ in range(60):
            async with connected(served.port) as peer:
                await peer.upgrade()
                kind = dice.choice([TEXT, BINARY, CLOSE, PING, PONG, 0, dice.randrange(16)])
                peer.say(frame(kind, dice.randbytes(dice.randrange(130)), final=dice.random() < 0.8) + dice.randbytes(dice.randrange(60)))
                await peer.writer.drain()
        await until(lambda: not served.server.server_state.connections)
        assert served.gateway.connections == set()
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


# ── behind a proxy ──
async def whose(request: Request) -> PlainTextResponse:
    assert request.client is not None
    return PlainTextResponse(request.client.host)


@contextlib.asynccontextmanager
async def behind(trusted: tuple[str, ...]) -> AsyncIterator[tuple[Gateway, int]]:
    """The server as it really runs, with these proxies."""
    gateway = Gateway(FakeFleet(), FAST, connects_per_s=1000.0)
    app = Starlette(routes=[Route("/whose", whose)], lifespan=with_devices(gateway))
    server, listening = uvicorn.Server(config(app, Settings(trusted_proxies=trusted))), listen("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield gateway, listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), "203.0.113.7", "127.0.0.1"),
        (("192.0.2.1",), "203.0.113.7", "127.0.0.1"),
        (("127.0.0.1",), None, "127.0.0.1"),
        (("127.0.0.1",), "", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.7", "203.0.113.7"),
        (("127.0.0.1",), "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # the first is what the device itself may have written
        (("127.0.0.0/8", "203.0.113.7"), "198.51.100.1,203.0.113.7", "198.51.100.1"),
        (("127.0.0.1",), "203.0.113.7:4711", "203.0.113.7"),
        (("127.0.0.1",), "[2001:db8::1]:443", "2001:db8::1"),
    ],
)
async def test_a_devices_address_is_learned_by_the_rule_of_http(trusted: tuple[str, ...], forwarded: str | None, address: str) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    async with behind(trusted) as (gateway, port), connected(port) as peer, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await peer.upgrade(**headers)
        await peer.word()
        (connection,) = gateway.connections
        asked = await client.get(f"http://127.0.0.1:{port}/whose", headers=headers)

    assert (connection.address, asked.text) == (address, address)


# ── the upgrade ──
UPGRADE = ("GET /device HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()) + "\r\n").encode()
KEY_LINE = b"Sec-WebSocket-Key: " + HEADERS["Sec-WebSocket-Key"].encode()


def test_a_whole_upgrade_is_recognized_and_nothing_else() -> None:
    found = whole_upgrade(UPGRADE)

    assert found == {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
    for other in (
        UPGRADE[:-1],
        UPGRADE + b"\x81",
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"/device", b"/devices"),
        UPGRADE.replace(b"/device", b"/device?a=b"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"Connection: Upgrade", b"Connection: close"),
        UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        UPGRADE.replace(b"Host:", b"Host :"),
        UPGRADE.replace(b"\r\nHost", b"\nHost"),
        UPGRADE.replace(b"127.0.0.1", b"127.0.0.1\r\n folded"),
        UPGRADE[:-2] + b"Host: another\r\n\r\n",
        UPGRADE[:-2] + b"sec-websocket-key: another\r\n\r\n",
        UPGRADE.replace(KEY_LINE, b"Sec-WebSocket-Key: another key"),
        UPGRADE.replace(KEY_LINE + b"\r\n", b""),
        UPGRADE[:-2] + b"X: " + bytes(b"x" * upgrade.HEAD_MAX_BYTES) + b"\r\n\r\n",
        UPGRADE[:-2] + b"Content-Length: 0\r\n\r\n",
        UPGRADE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    ):
        assert whole_upgrade(other) is None, other


def test_every_upgrade_has_its_own_key() -> None:
    for key in (b"AAAAAAAAAAAAAAAAAAAAAA==", b"BBBBBBBBBBBBBBBBBBBBBB==", b""):
        found = whole_upgrade(UPGRADE.replace(KEY_LINE, b"SEC-websocket-KEY:\t" + key + b" "))

        assert found is not None
        assert (found[b"sec-websocket-key"], found[b"host"]) == (key, HEADERS["Host"].encode())


@pytest.mark.parametrize("cut", [None, 1, 3, 4, 30, len(UPGRADE) - 1])
async def test_an_upgrade_in_pieces_is_answered_as_a_whole_one(cut: int | None) -> None:
    async with serving(known()) as served, connected(served.port) as peer:
        peer.say(UPGRADE[:cut])
        if cut is not None:
            await until(lambda: any(isinstance(each, DevicesBesideHttp) for each in served.server.server_state.connections))
            peer.say(UPGRADE[cut:])
        head = (await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode()

        assert head.startswith("HTTP/1.1 101 ")
        assert (await peer.word())["type"] == "challenge"


async def test_a_connection_that_says_nothing_is_cut_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "HEAD_S", 0.05)
    async with serving() as served, connected(served.port) as peer:
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(peer.reader.read(), PATIENCE_S) == b""

        await until(lambda: not served.server.server_state.connections)
