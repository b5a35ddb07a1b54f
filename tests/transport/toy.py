"""A small schema and app behind the real doors: every kind of field the transport's rules speak of, and nothing of the product."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import strawberry
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from strawberry.file_uploads import Upload
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from errors import NotFound, RateLimited, Unauthenticated
from settings import Settings
from transport import explorer, health
from transport.http import GraphQLDoor
from transport.server import Server, config, listen, run
from transport.sockets import NOT_ALLOWED

running: set[str] = set()  # names of operations under way, to see them cancelled


@dataclass
class Context:
    viewer_key: str | None = None
    expires_at: datetime | None = None
    seats: frozenset[int] = frozenset()
    cost: int = 0
    rate_limit: int = 0
    rate_remaining: int = 0
    rate_resets_at: datetime | None = None
    seen: list[str] = field(default_factory=list)

    @property
    def payer(self) -> str | None:
        return self.viewer_key

    def forget(self) -> None:
        pass


async def context_for(connection: HTTPConnection, authorization: str | None) -> Context:
    token = (authorization or "").removeprefix("Bearer ")
    if token == "bad":
        raise Unauthenticated("This token is not known. Log in again.")
    if token == "old":
        raise Unauthenticated("This token has expired.", reason="TOKEN_EXPIRED")
    if token == "breaks":
        raise RuntimeError("secret: connection to 10.0.0.1 refused")
    if token == "brief":
        return Context("viewer:brief", expires_at=datetime.now(UTC) + timedelta(seconds=1))
    return Context(f"viewer:{token}" if token else None)


@strawberry.type
class Item:
    name: str

    @strawberry.field
    def items(self, first: int | None = None, last: int | None = None) -> list["Item"]:
        return [Item(name=f"{self.name}.{n}") for n in range(first or last or 25)]

    @strawberry.field
    def self_(self) -> "Item":
        return self


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"Hello, {name}!"

    @strawberry.field
    def item(self) -> Item:
        return Item(name="root")

    @strawberry.field
    def items(self, first: int | None = None, last: int | None = None) -> list[Item]:
        return [Item(name=str(n)) for n in range(first or last or 25)]

    @strawberry.field
    def echo(self, value: JSON) -> JSON:
        return value

    @strawberry.field
    def number(self, value: int) -> int:
        return value

    @strawberry.field
    def missing(self) -> str | None:
        raise NotFound("There is no such thing, or you may not see it.")

    @strawberry.field
    def slow_down(self) -> str | None:
        raise RateLimited("Too many of these.", retry_after=7)

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("secret: SELECT password FROM users")

    @strawberry.field
    def leaking(self) -> int | None:
        return "secret"  # type: ignore[return-value]  # graphql-core's message would quote it

    @strawberry.field
    async def nap(self, seconds: float, name: str = "nap") -> str:
        running.add(name)
        try:
            await asyncio.sleep(seconds)
        finally:
            running.discard(name)
        return name

    @strawberry.field
    def cost(self, info: strawberry.Info[Context]) -> int:
        return info.context.cost

    @strawberry.field
    def viewer(self, info: strawberry.Info[Context]) -> str | None:
        return info.context.viewer_key

    @strawberry.field
    def seen(self, info: strawberry.Info[Context], mark: str) -> list[str]:
        info.context.seen.append(mark)
        return info.context.seen


@strawberry.type
class Mutation:
    @strawberry.mutation
    def sign_up(self, email: str) -> str:
        return email

    @strawberry.mutation
    async def keep(self, file: Upload, again: list[Upload] | None = None) -> str:
        data = await file.read()  # type: ignore[attr-defined]  # an UploadFile in truth
        return f"{len(data)} {file.filename} {len(again or [])}"  # type: ignore[attr-defined]


@strawberry.type
class Told:
    cursor: str
    text: str = "one\ntwo"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def told(self, to: int = 3, after: str | None = None) -> AsyncIterator[Told]:
        for n in range(int(after or 0) + 1, to + 1):
            yield Told(cursor=str(n))

    @strawberry.subscription
    async def count(self, to: int, pause: float = 0.0) -> AsyncIterator[int]:
        running.add("count")
        try:
            for n in range(1, to + 1):
                yield n
                await asyncio.sleep(pause)
        finally:
            running.discard("count")

    @strawberry.subscription
    async def flood(self, size: int = 100_000) -> AsyncIterator[str]:
        while True:
            yield "x" * size
            await asyncio.sleep(0)

    @strawberry.subscription
    async def fails(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("secret")

    @strawberry.subscription
    async def hidden(self) -> AsyncIterator[int]:
        raise NotFound("There is no such thing, or you may not see it.")
        yield 1


schema = strawberry.Schema(Query, Mutation, Subscription, config=StrawberryConfig())


def door(settings: Settings) -> GraphQLDoor:
    return GraphQLDoor(schema, context_for, settings)


async def send_away(graphql: GraphQLDoor, viewer_key: str, code: int = NOT_ALLOWED) -> int:
    """Close that viewer's connections, as the watch does, and say how many there were."""
    leaving = graphql.sockets.of_viewer(viewer_key)
    await asyncio.gather(*(socket.leave(code, "Not allowed any more") for socket in leaving))
    return len(leaving)


def app(settings: Settings) -> tuple[Starlette, GraphQLDoor]:
    graphql = door(settings)
    routes = [
        *graphql.routes(),
        *explorer.routes(),
        *health.routes({}, is_draining=lambda: graphql.sockets.is_draining),
    ]
    return Starlette(routes=routes), graphql


@dataclass
class Running:
    port: int
    door: GraphQLDoor
    server: Server
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/graphql"


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Running]:
    """A real uvicorn in a thread, on a free port."""
    starlette, graphql = app(settings)
    listening = listen("127.0.0.1", 0)
    started = threading.Event()
    server = Server(config(starlette, settings), graphql.sockets.drain, lambda port: started.set())
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield Running(listening.getsockname()[1], graphql, server, loops[0])
    finally:
        server.should_exit = True
        thread.join(40)
        assert not thread.is_alive(), "the server did not end"


def main() -> None:
    """A process of its own, for signals: prints its port once it serves."""
    settings = Settings(port=0, rate_limits=False)
    starlette, graphql = app(settings)
    run(starlette, settings, drain=graphql.sockets.drain, ready=lambda port: print(port, flush=True))


if __name__ == "__main__":
    main()
