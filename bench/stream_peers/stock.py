"""Strawberry as it comes, on uvicorn: one operation a subscriber and event."""

import asyncio
from collections.abc import AsyncGenerator

import strawberry
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import GraphQL

from bench.stream_peers.listening import serve

queues: set[asyncio.Queue[str]] = set()


@strawberry.type
class Event:
    id: strawberry.ID
    device_id: strawberry.ID
    name: str
    data: str | None
    ttl: int
    published_at: str
    cursor: str


@strawberry.type
class Query:
    ok: bool = True


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def events(self, product_id: int) -> AsyncGenerator[Event, None]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues.add(queue)
        try:
            while True:
                data = await queue.get()
                yield Event(
                    id=strawberry.ID("01HZX3V9Q7"), device_id=strawberry.ID("55ff6d04498b490123456789"), name="telemetry/temperature",
                    data=data, ttl=60, published_at="2026-11-21T20:48:00.123Z", cursor="AAECAwQFBgcAAAAAAAAAewAAAAA",
                )  # fmt: skip
        finally:
            queues.discard(queue)


async def publish(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            data = await socket.receive_text()
            for queue in queues:
                queue.put_nowait(data)
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    door = GraphQL(strawberry.Schema(Query, subscription=Subscription), subscription_protocols=("graphql-transport-ws",))
    serve(Starlette(routes=[WebSocketRoute("/graphql", door), WebSocketRoute("/publish", publish)]))
