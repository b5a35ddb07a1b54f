"""What the doors need to know of an operation's context; the room that makes contexts knows nothing of the doors."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from starlette.requests import HTTPConnection

from transport.rates import Allowance


class OperationContext(Protocol):
    """Made new for each operation. The doors read the properties and set the rest for the `rateLimit` field."""

    @property
    def viewer_key(self) -> str | None:
        """Names whoever asks: all connections of one token have the same; None for anybody who has not logged in."""

    @property
    def seats(self) -> frozenset[int]:
        """The organizations in which whoever asks has a seat: who loses one is sent away."""

    @property
    def payer(self) -> str | None:
        """Names whoever pays for the operation, with whichever token; None for anybody who has not logged in."""

    @property
    def expires_at(self) -> datetime | None:
        """When the token ends, and the socket that was opened with it."""

    def forget(self) -> None:
        """The operation begins anew: no row that was read until now may be met again."""

    cost: int
    rate_limit: int
    rate_remaining: int
    rate_resets_at: datetime | None


# (the request or socket, the value of `Authorization` or None) -> the context. Raises a CallerError for a token that is no good:
# Unauthenticated with reason "TOKEN_EXPIRED" tells a socket's client to come back with a fresh one.
ContextFor = Callable[[HTTPConnection, str | None], Awaitable[OperationContext]]


def note_price(context: OperationContext, cost: int, allowance: Allowance | None) -> None:
    """Tell the context what the operation costs and what is left to its caller."""
    context.cost = cost
    if allowance:
        context.rate_limit, context.rate_remaining = allowance.limit, allowance.remaining
        context.rate_resets_at = allowance.resets_at
