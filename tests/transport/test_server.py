"""Peers that stall, trickle or fall silent are cut off, and a signal ends the server in time whatever they do."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

TOY = Path(__file__).with_name("toy.py")
HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


def frame(opcode: int, data: bytes, *, final: bool = True) -> bytes:
    """One masked client frame (the mask is zero, which changes nothing)."""
    length = len(data)
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return bytes([opcode | (0x80 if final else 0)]) + size + b"\0\0\0\0" + data


async def raw_socket(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE.encode())
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def close_code(reader) -> int | None:
    """The code of the server's close frame; None when it cut the connection without one."""
    data = b""
    while chunk := await asyncio.wait_for(reader.read(65536), 45):
        data += chunk
    at = data.find(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big") if at >= 0 else None


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(1, b"\xff\xfe"), 1007),
        (frame(3, b"x"), 1002),
        (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
        (b"\x81\x01x", 1002),  # not masked
        (frame(9, b"x" * 126), 1002),  # a control frame too long
        (frame(0, b"x"), 1002),  # the rest of nothing
        (b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", 1009),
        (frame(1, b"", final=False) + frame(0, b"", final=False) * 2000, 1009),
        (frame(1, b"[", final=False) + frame(0, b"]"), 4400),
        (frame(2, b"{}"), 4400),
    ],
)
async def test_a_broken_frame_ends_the_socket_with_its_code(server, frames, code):
    reader, writer = await raw_socket(server.port)
    writer.write(frames)

    assert await close_code(reader) == code
    writer.close()


async def test_compression_is_not_offered(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n").encode())

    head = await reader.readuntil(b"\r\n\r\n")

    assert b"101" in head and b"permessage-deflate" not in head
    writer.close()


async def test_the_answer_names_no_server_software(client):
    response = await client.post("/graphql", json={"query": "{ hello }"})

    assert "server" not in response.headers


@pytest.mark.parametrize(
    "begin",
    [b"", b"POST /graphql HTTP/1.1\r\nHo", b"POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"],
    ids=["silent", "slow head", "slow body"],
)
async def test_a_slow_peer_is_closed_within_15_s(server, begin):
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(begin)

    async def trickle() -> None:
        while True:
            await asyncio.sleep(1)
            if begin:
                writer.write(b" " if begin.endswith(b"{") else b"x")

    trickling = asyncio.ensure_future(trickle())
    try:
        await asyncio.wait_for(reader.read(), 60)
    except ConnectionResetError:
        pass
    finally:
        trickling.cancel()

    assert 14 < time.monotonic() - started < 40
    writer.close()


def stalled_peer(port: int) -> socket.socket:
    """A socket that asks for a flood and never reads."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect(("127.0.0.1", port))
    peer.sendall(HANDSHAKE.encode())
    while b"\r\n\r\n" not in peer.recv(4096):
        pass
    for message in ({"type": "connection_init"}, {"type": "subscribe", "id": "1", "payload": {"query": "subscription { flood }"}}):
        peer.sendall(frame(1, json.dumps(message).encode()))
    return peer


async def test_a_reader_that_stalls_is_gone_within_30_s_and_frees_everything(server, toy):
    while len(server.door.sockets):  # of the tests before
        await asyncio.sleep(0.05)
    peers = [stalled_peer(server.port) for _ in range(3)]
    started = time.monotonic()
    while len(server.door.sockets) < 3:
        await asyncio.sleep(0.05)

    while len(server.door.sockets):
        assert time.monotonic() - started < 60
        await asyncio.sleep(0.2)

    for peer in peers:
        peer.close()


@pytest.fixture
def process():
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    child = subprocess.Popen([sys.executable, str(TOY)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, env=environment)
    yield child, int(child.stdout.readline())
    if child.poll() is None:
        child.kill()
    child.communicate()


async def test_sigterm_sends_1012_and_ends_with_0_within_10_s_whatever_20_stalled_readers_do(process):
    child, port = process
    peers = [stalled_peer(port) for _ in range(20)]
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=["graphql-transport-ws"], compression=None) as healthy:
        await healthy.send('{"type":"connection_init"}')
        await healthy.recv()
        await asyncio.sleep(1)

        child.send_signal(signal.SIGTERM)
        started = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            await healthy.recv()
        code = await asyncio.to_thread(child.wait, 40)

    assert closed.value.rcvd.code == 1012
    assert code == 0
    assert time.monotonic() - started < 20  # a reader that stalls would hold it up for thirty
    assert b"Traceback" not in child.stderr.read()
    for peer in peers:
        peer.close()


async def test_sigterm_lets_a_request_under_way_finish(process):
    child, port = process
    body = b'{"query":"{ nap(seconds: 1) }"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as other:  # answered after what was asked before it has begun
        await other.post(f"http://127.0.0.1:{port}/graphql", json={"query": "{ hello }"})

    child.send_signal(signal.SIGTERM)

    assert b'{"data":{"nap":"nap"}}' in await asyncio.wait_for(reader.read(), 60)
    assert await asyncio.to_thread(child.wait, 40) == 0
    writer.close()


def test_an_idle_server_ends_at_once(process):
    child, _ = process
    started = time.monotonic()

    child.send_signal(signal.SIGTERM)

    assert child.wait(40) == 0
    assert time.monotonic() - started < 5


def test_a_port_that_is_taken_is_an_oserror():
    from transport.server import listen

    with listen("127.0.0.1", 0) as taken, pytest.raises(OSError):
        listen("127.0.0.1", taken.getsockname()[1])
