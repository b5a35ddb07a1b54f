"""Shared streams on real sockets: finished frames and plain ASGI alike, readers that stall or pause, and the end of the server."""

import asyncio
import contextlib
import dataclasses
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.live import LiveFleet
from models.log import NamedStream
from realtime import log, named
from realtime.fanout import Fanout
from realtime.log import NewEntry
from resolvers.context import context_for
from schema.build import build_schema
from schema.event import OF_THE_LOG
from settings import Settings
from tests.clients import Client
from tests.connected import ID, a_device, a_product, until
from tests.house import HouseTester, open_house
from tests.processes import ServerProcess
from transport.http import GraphQLDoor
from transport.uvicorn_protocol import finite_websocket

PRODUCT = 1094
QUERY = "subscription ($p: Int!) { events(productId: $p) { cursor event { name data } } }"


@pytest.fixture
async def house(migrated_sqlite: Settings) -> AsyncIterator[HouseTester]:
    """Sockets are the same on every database."""
    live = LiveFleet()
    async with open_house(migrated_sqlite, live) as opened:
        yield HouseTester(opened, live=live)


@dataclass
class Served:
    tester: HouseTester
    token: str
    port: int
    fanout: Fanout
    door: GraphQLDoor
    counted: int = 0

    async def publish(self, count: int, size: int = 1) -> None:
        now, first = datetime.now(UTC), self.counted
        self.counted += count
        entries = [NewEntry(PRODUCT, "event", f"n{number}", now, ID, "x" * size) for number in range(first, first + count)]
        await asyncio.gather(*(self.tester.house.flusher.publish(entry) for entry in entries))

    async def subscribe(self, *ids: str) -> ClientConnection:
        peer = await connect(f"ws://127.0.0.1:{self.port}/graphql", subprotocols=["graphql-transport-ws"], compression=None, max_size=None)  # type: ignore[list-item]
        await peer.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {self.token}"}}))
        assert json.loads(await peer.recv())["type"] == "connection_ack"
        for id in ids:
            await peer.send(json.dumps({"type": "subscribe", "id": id, "payload": {"query": QUERY, "variables": {"p": PRODUCT}}}))
        return peer

    async def shared(self, count: int) -> None:
        """Wait until that many subscriptions are in one stream."""
        await until(lambda: self.in_streams() == count and len(self.fanout) == 1)

    def in_streams(self) -> int:
        return sum(len(stream.followers()) for stream in self.fanout._streams.values())

    def stalled(self) -> socket.socket:
        """A subscriber that never reads; blocking, for a thread."""
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", self.port))
        subscribe_and_stop_reading(peer, self.token)
        return peer


def subscribe_and_stop_reading(peer: socket.socket, token: str) -> None:
    peer.sendall(
        b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    while b"\r\n\r\n" not in peer.recv(4096):
        pass
    for message in (
        {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}},
        {"type": "subscribe", "id": "1", "payload": {"query": QUERY, "variables": {"p": PRODUCT}}},
    ):
        body = json.dumps(message).encode()
        peer.sendall(bytes((0x81, 0xFE)) + len(body).to_bytes(2, "big") + b"\0\0\0\0" + body)
    assert b"connection_ack" in peer.recv(4096)


@contextlib.asynccontextmanager
async def serving(tester: HouseTester, protocol: type[asyncio.Protocol], **settings: Any) -> AsyncIterator[Served]:
    token = await tester.owner()
    await a_device(await a_product(tester))
    async with Fanout(tester.house.dispatcher) as fanout:
        door = GraphQLDoor(
            build_schema(), lambda *asked: context_for(tester.house, *asked),
            dataclasses.replace(tester.house.settings, **settings), fanout=fanout, of_the_log=OF_THE_LOG,
        )  # fmt: skip
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            Starlette(routes=door.routes()), ws=protocol, ws_per_message_deflate=False, lifespan="off", log_level="critical",
            timeout_graceful_shutdown=3,
        )  # fmt: skip
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield Served(tester, token, listening.getsockname()[1], fanout, door)
        finally:
            await door.sockets.drain(0)
            server.should_exit = True
            await running


# With our protocol frames are finished by us; without it the same code runs on what every ASGI server offers.
PROTOCOLS = pytest.mark.parametrize("protocol", [finite_websocket(30.0), WebSocketsSansIOProtocol], ids=["frames", "plain ASGI"])


async def heard(peer: ClientConnection, count: int) -> list[tuple[str, str]]:
    """The next messages: operation id and the event's name."""
    found = []
    async with asyncio.timeout(60):
        while len(found) < count:
            message = json.loads(await peer.recv())
            assert message["type"] == "next", message
            found.append((message["id"], message["payload"]["data"]["events"]["event"]["name"]))
    return found


@PROTOCOLS
async def test_every_socket_hears_every_event_in_order_under_its_own_id(house, protocol):
    async with serving(house, protocol) as served:
        ids = [f"id-{'x' * (n % 3)}{n}" for n in range(10)] + ["7", 'quo"ted', "ünï\\code", "🚀"]
        peers = [await served.subscribe(id) for id in ids]
        both = await served.subscribe("one", "two")
        await served.shared(len(ids) + 2)
        for size in (1, 100, 125, 126, 1000, 65_000, 66_000):
            await served.publish(1, size)
        await served.publish(20)

        wanted = [f"n{number}" for number in range(27)]
        for id, peer in zip(ids, peers, strict=True):
            assert await heard(peer, 27) == [(id, name) for name in wanted]
        of_both = await heard(both, 54)
        assert [name for id, name in of_both if id == "one"] == [name for id, name in of_both if id == "two"] == wanted
        for peer in (*peers, both):
            await peer.close()


@PROTOCOLS
async def test_completing_one_of_two_leaves_the_other_and_frees_the_id(house, protocol):
    async with serving(house, protocol) as served:
        peer = await served.subscribe("one", "two")
        await served.shared(2)
        await peer.send('{"type":"complete","id":"one"}')
        await served.shared(1)
        await served.publish(3)
        first = await heard(peer, 3)
        await peer.send(json.dumps({"type": "subscribe", "id": "one", "payload": {"query": QUERY, "variables": {"p": PRODUCT}}}))
        await served.shared(2)
        await served.publish(1)

        assert first == [("two", "n0"), ("two", "n1"), ("two", "n2")]
        assert sorted(await heard(peer, 2)) == [("one", "n3"), ("two", "n3")]
        await peer.close()
        await until(lambda: len(served.fanout) == 0)


@PROTOCOLS
async def test_a_reader_that_pauses_holds_nobody_up_and_misses_nothing(house, protocol):
    """16 MB are more than the kernel holds for it, so that the server has to let it go and take it in again."""
    async with serving(house, protocol) as served:
        slow, quick = await served.subscribe("slow"), await served.subscribe("quick")
        await served.shared(2)
        slow.transport.pause_reading()
        listening = asyncio.create_task(heard(quick, 1001))
        await served.publish(1000, 16_000)
        await until(lambda: served.in_streams() == 1)
        slow.transport.resume_reading()
        catching_up = asyncio.create_task(heard(slow, 1001))
        await until(lambda: served.in_streams() == 2)
        await served.publish(1)

        wanted = [f"n{number}" for number in range(1001)]
        assert [name for _, name in await listening] == wanted
        assert [name for _, name in await catching_up] == wanted
        for peer in (slow, quick):
            await peer.close()


async def test_a_reader_that_stalls_is_gone_in_its_time_with_bounded_memory_and_the_others_hear_all(house):
    protocol = finite_websocket(2.0)
    most = 0

    class Measured(protocol):  # type: ignore[misc,valid-type]  # made for this test's setting
        def pause_writing(self) -> None:
            super().pause_writing()
            self.loop.call_later(1.0, self.measure)

        def measure(self) -> None:
            nonlocal most
            most = max(most, self.transport.get_write_buffer_size())

    async with serving(house, Measured) as served:
        quick = await served.subscribe("quick")
        stalled = [await asyncio.to_thread(served.stalled) for _ in range(3)]
        await served.shared(4)
        listening = asyncio.create_task(heard(quick, 1000))
        await served.publish(1000, 16_000)
        begun = time.monotonic()
        await until(lambda: len(served.door.sockets) == 1, within_s=60)

        assert time.monotonic() - begun < 25  # not the thirty seconds of other servers
        assert 64 << 10 < most < 1 << 20
        assert len(await listening) == 1000
        assert served.in_streams() == 1
        for peer in stalled:
            peer.close()
        await quick.close()


async def test_a_slow_reader_that_still_reads_learns_that_it_was_too_slow(house):
    async with serving(house, finite_websocket(3.0)) as served:
        peer = await served.subscribe("1")
        await served.shared(1)
        peer.transport.pause_reading()
        await served.publish(1000, 16_000)
        await until(lambda: len(served.door.sockets) == 0)
        peer.transport.resume_reading()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(peer.recv(), 60)

        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013


async def test_sigterm_ends_the_server_in_time_while_20_followers_of_a_stream_read_nothing(
    migrated_sqlite: Settings, start_server: Callable[..., ServerProcess]
) -> None:
    """With a healthy follower in the same stream, which is told 1012."""
    server = start_server(dataclasses.replace(migrated_sqlite, event_data_max_bytes=16384, event_rate_per_s=1e6, event_burst=10**6))
    async with Client(server.url) as client:
        person = {"email": "ann@example.com", "password": "a sentence is a good password", "name": "Ann"}
        client.token = (await client.do("signUp", "token", **person))["token"]
        await client.do("createOrganization", "organization { id }", name="Acme")
        number = (await client.do("createProduct", "product { productId }", organization="acme", name="Lamp", platform="PHOTON"))[
            "product"
        ]["productId"]

        def stalled() -> socket.socket:
            peer = socket.create_connection(("127.0.0.1", server.port))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            subscribe_and_stop_reading(peer, client.token)
            return peer

        peers = [await asyncio.to_thread(stalled) for _ in range(20)]
        async with connect(f"{server.websocket_url}/graphql", subprotocols=["graphql-transport-ws"], compression=None) as healthy:  # type: ignore[list-item]
            await healthy.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {client.token}"}}))
            await healthy.recv()
            await healthy.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": QUERY, "variables": {"p": number}}}))
            for _ in range(6):
                answer = "\n".join(
                    f'a{n}: publishEvent(input: {{productId: {number}, name: "e", data: $d}}) {{ errors {{ code }} }}' for n in range(60)
                )
                await client.ask(f"mutation ($d: String) {{ {answer} }}", d="x" * 16_000)

            begun = time.monotonic()
            ending = asyncio.create_task(asyncio.to_thread(server.stop, timeout_s=15))
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await healthy.recv()

        assert await ending == 0
        assert time.monotonic() - begun < 15
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        for peer in peers:
            peer.close()


@PROTOCOLS
async def test_a_named_stream_is_remembered_as_far_as_the_peer_has_answered(house, protocol, monkeypatch):
    """With our protocol a ping goes out behind the messages, and its pong is the proof."""
    monkeypatch.setattr(named, "KEEP_S", 0.05)
    query = 'subscription ($p: Int!) { events(productId: $p, stream: "mine") { cursor event { name } } }'
    async with serving(house, protocol) as served:
        for first, count in ((0, 3), (3, 2)):
            peer = await served.subscribe()
            await peer.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": query, "variables": {"p": PRODUCT}}}))
            await served.shared(1)
            await served.publish(count)
            assert await heard(peer, count) == [("1", f"n{number}") for number in range(first, first + count)]
            end = str(await log.head(PRODUCT))

            async def is_stored(end: str = end) -> bool:
                return (await NamedStream.get()).cursor == end

            await until(is_stored)
            await peer.close()
            await until(lambda: len(served.fanout) == 0)


async def test_server_sent_events_share_the_stream_with_sockets_and_name_theirs(house):
    async with serving(house, finite_websocket(30.0)) as served:
        socket_ = await served.subscribe("1")
        await served.shared(1)
        headers = {"accept": "text/event-stream", "authorization": f"Bearer {served.token}"}
        body = {"query": QUERY, "variables": {"p": PRODUCT}}
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client,
            client.stream("POST", "/graphql", json=body, headers=headers) as response,
        ):
            await served.shared(2)
            await served.publish(2)
            lines = response.aiter_lines()
            found = []
            async with asyncio.timeout(60):
                while len(found) < 2:
                    line = await anext(lines)
                    if line.startswith("id: "):
                        data = json.loads((await anext(lines)).removeprefix("data: "))["data"]["events"]
                        assert data["cursor"] == line.removeprefix("id: ")
                        found.append(data["event"]["name"])

        assert found == ["n0", "n1"]
        assert await heard(socket_, 2) == [("1", "n0"), ("1", "n1")]
        await socket_.close()
        await until(lambda: len(served.fanout) == 0)
