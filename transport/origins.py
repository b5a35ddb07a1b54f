"""Which pages of other origins may read what a door answers: those the operator named, and no other."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Send

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
    """Starlette's, which for a caller that is no page of another origin has nothing to weigh."""

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        if message["type"] == "http.response.start" and "origin" not in request_headers:
            message["headers"] = [*message.get("headers", ()), (b"vary", b"Origin")]
            await send(message)
        else:
            await super().send(message, send, request_headers)
