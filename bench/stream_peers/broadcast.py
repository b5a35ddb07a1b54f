"""`websockets.broadcast`: the same bytes to everybody, no operation ids, nobody asked who may."""

import gc
import json

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.typing import Subprotocol

EVENT = {
    "id": "01HZX3V9Q7", "deviceId": "55ff6d04498b490123456789", "name": "telemetry/temperature", "ttl": 60,
    "publishedAt": "2026-11-21T20:48:00.123Z", "cursor": "AAECAwQFBgcAAAAAAAAAewAAAAA",
}  # fmt: skip
listeners: set[ServerConnection] = set()


async def converse(connection: ServerConnection) -> None:
    assert connection.request is not None
    async for text in connection:
        if connection.request.path == "/publish":
            answer = {"id": "0000", "type": "next", "payload": {"data": {"events": {**EVENT, "data": text}}}}
            broadcast(listeners, json.dumps(answer, separators=(",", ":")))
        elif json.loads(text)["type"] == "connection_init":
            await connection.send('{"type":"connection_ack"}')
        else:
            listeners.add(connection)
    listeners.discard(connection)


async def main() -> None:
    protocols = [Subprotocol("graphql-transport-ws")]
    async with serve(converse, "127.0.0.1", 0, compression=None, subprotocols=protocols) as server:
        port = server.sockets[0].getsockname()[1]
        gc.collect()
        gc.freeze()
        gc.set_threshold(20000, 50, 100)
        print(json.dumps({"port": port, "publish": port}), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
