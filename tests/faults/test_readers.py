"""Readers that sleep, stall or are sent away: the server keeps nothing for them, and they come back to all of it."""

import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from settings import Settings
from tests.faults.altered import serving
from tests.faults.scene import EVENTS, SCALE, Scene, measured, of_a_fleet, opened
from tests.processes import SERVE, ServerProcess

STALLED_S = 2.0 if SCALE == 1 else 30.0  # 30 s is what a server comes with
A_READER_MAX = 2 << 20  # bytes


async def gone(server: ServerProcess, *, left: int, within_s: float) -> tuple[float, int]:
    """Seconds until no more than `left` sockets are open, and the most memory it had meanwhile."""
    begun, most = time.monotonic(), 0
    while (now := await measured(server)).sockets > left:
        most = max(most, now.rss)
        assert time.monotonic() - begun < within_s, "still there"
        await asyncio.sleep(0.1)
    return time.monotonic() - begun, most


def started(settings: Settings, start_server, *, command=SERVE) -> ServerProcess:
    return start_server(of_a_fleet(settings, stalled_reader_s=STALLED_S, event_data_max_bytes=16384), command=command)


async def sockets_open(server: ServerProcess, count: int) -> None:
    async with asyncio.timeout(60):
        while (await measured(server)).sockets < count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("command", [SERVE, serving("drops_what_a_sleeper_does_not_read")], ids=["as it is", "drops what it does not read"])
async def test_a_client_that_slept_comes_back_by_itself_and_has_missed_nothing(migrated_postgres: Settings, start_server, command) -> None:
    """Asleep with its connection open, as behind a closed lid."""
    server = await asyncio.to_thread(started, migrated_postgres, start_server, command=command)
    async with opened([server], migrated_postgres.database_url) as scene, scene.resuming(url=server.url) as client:
        scene.padding = 15_000  # more than the kernel takes for a sleeper
        await scene.publish(20)
        await scene.judge(client)
        os.kill(client.pid, signal.SIGSTOP)
        try:
            await scene.publish(600)
            if command is SERVE:
                await gone(server, left=0, within_s=STALLED_S + 45)
        finally:
            os.kill(client.pid, signal.SIGCONT)
        await client.until(lambda: len(client.messages) > 100)  # it reads again
        await scene.publish(20)
        if command is not SERVE:
            with pytest.raises(AssertionError, match="were not heard"):
                await scene.judge(client)
            return server.kill()
        (found,) = await scene.judge(client)

    assert (found.connections, found.repeated) == (2, 0)
    return None


async def a_crowd_comes_and_goes(scene: Scene, server: ServerProcess, before: str) -> tuple[float, int]:
    """20 readers that stall, beside one that reads: how long they could stay, and the most memory the server had."""
    peers = [await scene.stalled(before, server.url) for _ in range(20)]
    found = await gone(server, left=1, within_s=min(45.0, STALLED_S + 20))
    for peer in peers:
        peer.close()
    return found


@pytest.mark.timeout(120 + 6 * STALLED_S)
@pytest.mark.parametrize("command", [SERVE, serving("never_aborts")], ids=["as it is", "never aborts"])
async def test_twenty_stalled_readers_are_gone_in_their_time_with_their_memory(
    migrated_postgres: Settings, start_server, capsys, command
) -> None:
    if command is not SERVE and SCALE > 1:
        pytest.skip("a defect that a short run shows")
    server = await asyncio.to_thread(started, migrated_postgres, start_server, command=command)
    async with opened([server], migrated_postgres.database_url) as scene:
        before = await scene.fill()
        async with scene.resuming(url=server.url) as healthy:
            if command is not SERVE:
                peer = await scene.stalled(before, server.url)
                with pytest.raises(AssertionError, match="still there"):
                    await gone(server, left=1, within_s=1.2 * STALLED_S + 12)
                peer.close()
                return server.kill()
            await a_crowd_comes_and_goes(scene, server, before)  # so that pools and the allocator have seen one
            at_rest = await measured(server)
            seconds, most = await a_crowd_comes_and_goes(scene, server, before)
            await scene.publish(50)
            (found,) = await scene.judge(healthy)
            after = await measured(server)

    assert most - at_rest.rss < 20 * A_READER_MAX
    assert after.rss < at_rest.rss * 1.1, "what was theirs is not kept; the allocator keeps a little of it"
    assert after.fds <= at_rest.fds + 5, "connections of the pool come and go"
    assert after.tasks <= at_rest.tasks + 2
    assert found.connections == 1, "whoever reads is not disturbed"
    with capsys.disabled():
        print(f"\n20 stalled readers gone after {seconds:.1f} s: {at_rest}, at most {most}, {after}")
    return None


async def acknowledged(scene: Scene, server: ServerProcess) -> ClientConnection:
    """A socket of a caller who has said who it is, and nothing else yet."""
    peer = await connect(f"{server.websocket_url}/graphql", subprotocols=["graphql-transport-ws"], compression=None)  # type: ignore[list-item]
    await peer.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {scene.client.token}"}}))
    assert json.loads(await peer.recv())["type"] == "connection_ack"
    return peer


async def following(scene: Scene, server: ServerProcess, query: str = EVENTS) -> ClientConnection:
    peer = await acknowledged(scene, server)
    said = {"query": query, "variables": {"id": scene.product_id, "after": scene.begin}}
    await peer.send(json.dumps({"type": "subscribe", "id": "1", "payload": said}))
    return peer


async def code_of(peer: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await peer.recv()
    return closed.value.rcvd.code if closed.value.rcvd else None


async def test_a_rolling_restart_tells_every_reader_1012_and_repeats_nothing(migrated_postgres: Settings, start_server) -> None:
    """With three readers on each server that do not listen. Each server ends by itself, within 15 s."""
    running = [await asyncio.to_thread(started, migrated_postgres, start_server) for _ in range(2)]
    async with opened(running, migrated_postgres.database_url) as scene, AsyncExitStack() as listening:
        before = await scene.fill()
        clients = [await listening.enter_async_context(scene.resuming()) for _ in range(3)]
        codes: list[int | None] = []
        for server in running * max(1, SCALE // 5):
            readers = [await following(scene, server) for _ in range(3)]
            stalled = [await scene.stalled(before, server.url) for _ in range(3)]
            await scene.publish(20)
            told = [asyncio.create_task(code_of(reader)) for reader in readers]
            assert await asyncio.to_thread(server.stop, timeout_s=15) == 0
            codes += await asyncio.gather(*told)
            await asyncio.to_thread(server.start)
            await scene.publish(20)
            for peer in stalled:
                peer.close()
        found = await scene.judge(*clients)

    assert set(codes) == {1012}
    assert [each.repeated for each in found] == [0, 0, 0]
    assert max(each.connections for each in found) > 1


async def test_one_syntax_error_leaves_the_other_streams_of_its_socket_alive(migrated_sqlite: Settings, start_server) -> None:
    server = await asyncio.to_thread(started, migrated_sqlite, start_server)
    async with opened([server], "") as scene:
        socket = await following(scene, server)
        for id, text in (("2", "subscription { events("), ("3", "{ nothing }"), ("4", "subscription { events(productId: 1) { cursor } }")):
            await socket.send(json.dumps({"type": "subscribe", "id": id, "payload": {"query": text}}))
            refused = json.loads(await socket.recv())
            assert (refused["type"], refused["id"]) == ("error", id)
            await scene.publish(1)
            heard = json.loads(await socket.recv())
            assert (heard["type"], heard["id"]) == ("next", "1")
        await socket.close()
