"""Subscriptions on wires of the test's own, over a real house: no sockets, no clock."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from realtime.fanout import Fanout
from realtime.sources import Lane
from schema.build import build_schema
from schema.event import OF_THE_LOG
from tests.house import HouseTester
from transport.gate import Asked
from transport.http import GraphQLDoor
from transport.subscription import Subscription
from transport.wire import TextLane

EVENTS = """subscription ($productId: Int!, $namePrefix: String, $after: Cursor) {
  events(productId: $productId, namePrefix: $namePrefix, after: $after) { cursor event { name } gap { reason to } } }"""


class Sink:
    """A wire that keeps what is written, and is full when the test says so."""

    def __init__(self) -> None:
        self.on_full = lambda: None
        self.heard: list[dict[str, Any]] = []
        self._room = asyncio.Event()
        self._room.set()

    @property
    def is_full(self) -> bool:
        return not self._room.is_set()

    def mark(self):
        return lambda: self.has_acknowledged

    has_acknowledged = True

    def fill(self) -> None:
        self._room.clear()
        self.on_full()

    def drain(self) -> None:
        self._room.set()

    def write(self, text: bytes) -> None:
        self.heard.append(json.loads(text))

    def lane(self, ident: bytes) -> Lane:
        return TextLane()

    async def drained(self) -> None:
        await self._room.wait()


@dataclass(eq=False)
class Follower:
    subscription: Subscription
    sink: Sink
    task: asyncio.Task[None]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [next(iter(message["payload"]["data"].values())) for message in self.sink.heard]

    @property
    def is_shared(self) -> bool:
        return self.subscription._stream is not None

    async def stop(self) -> None:
        self.subscription.leave()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Followers:
    tester: HouseTester
    door: GraphQLDoor
    fanout: Fanout
    all: list[Follower] = field(default_factory=list)

    async def follow(self, query: str = EVENTS, token: str = "", operation_id: str = "1", **variables: Any) -> Follower:
        context = await self.tester.context(token)
        asked, prepared = await self.door.prepare(Asked(query, None, variables), context, None)
        subscribed = await self.door.documents.subscribe(asked, prepared, context)
        sink, alike = Sink(), self.door.alike(asked, prepared)
        subscription = Subscription(
            subscribed.source, subscribed, alike, wire=sink, fanout=self.fanout, masking=self.door.masking,
            ident=json.dumps(operation_id).encode(),
        )  # fmt: skip
        sink.on_full = subscription.full
        self.all.append(Follower(subscription, sink, asyncio.create_task(subscription.run())))
        return self.all[-1]


@asynccontextmanager
async def followers(tester: HouseTester, *, tick_s: float = 0.001) -> AsyncIterator[Followers]:
    async def context_for(*_: object) -> Any:
        raise AssertionError("no requests here")

    async with Fanout(tester.house.dispatcher, tick_s=tick_s, rest=1e9) as fanout:
        door = GraphQLDoor(build_schema(), context_for, tester.house.settings, fanout=fanout, of_the_log=OF_THE_LOG)
        found = Followers(tester, door, fanout)
        try:
            yield found
        finally:
            for follower in found.all:
                await follower.stop()
