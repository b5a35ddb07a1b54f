"""Which pages of other origins may read what a door answers: those the operator named, and no other."""

from collections.abc import Iterable

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

PREFLIGHT_S = 600  # how long a browser remembers what it was told
ASKED_HEADERS = ("authorization", "content-type", "last-event-id", "graphql-preflight", "apollo-require-preflight", "x-requested-with")
SHOWN_HEADERS = ("retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


def readable_from(origins: Iterable[str], routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """The same routes, answering preflights. An origin is compared whole and never repeated unless it is one of ours; no cookies.

    Sockets are not concerned: their door refuses foreign origins itself.
    """
    allowed, opened = list(origins), list(routes)
    for route in opened:
        if isinstance(route, Route):
            route.app = _Readable(
                route.app,
                allow_origins=allowed,
                allow_methods=("GET", "POST"),
                allow_headers=ASKED_HEADERS,
                expose_headers=SHOWN_HEADERS,
                max_age=PREFLIGHT_S,
            )
            if route.methods:
                route.methods.add("OPTIONS")
    return opened


class _Readable(CORSMiddleware):
    """Starlette's, past which a caller goes that is no page: there is nothing to weigh, and only caches are told that there may be."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"vary", b"Origin")]
            await send(message)

        await self.app(scope, receive, told)
