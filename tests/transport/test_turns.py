"""Thousands of sockets at once: they begin by turns, and leave something of the database's pool to everybody else."""

import asyncio

from websockets.asyncio.client import connect

from settings import Settings
from tests.transport.test_websocket import PROTOCOL, Peer
from transport.sockets import BEGINNING


async def test_sockets_that_come_at_once_begin_by_turns(toy):
    at_once = most = 0

    async def slowly(*asked):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return await toy.context_for(*asked)

    with toy.serving(Settings(rate_limits=False)) as running:
        running.door.context_for = slowly
        peers = [Peer(await connect(running.ws, subprotocols=[PROTOCOL], compression=None)) for _ in range(4 * BEGINNING)]
        for peer in peers:
            await peer.send({"type": "connection_init"})
            await peer.subscribe("{ hello }")
        said = [[(await peer.hear())["type"] for _ in range(3)] for peer in peers]
        for peer in peers:
            await peer.socket.close()

    assert said == [["connection_ack", "next", "complete"]] * len(peers)
    assert 1 <= most <= BEGINNING
