"""Work that is stopped when its time is up, or when nobody waits for its outcome any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.types import Scope

LEAVING = "flotilla.leaving"  # the ASGI extension: takes what to call when the client leaves, None to forget it
T = TypeVar("T")
Tell = Callable[[Callable[[], None] | None], None]


class ClientGone(Exception):
    """Nobody reads the answer any more."""


class TimeIsUp(Exception):
    """It took too long."""


async def while_awaited(work: Awaitable[T], scope: Scope, seconds: float) -> T:
    """The outcome of `work`, in the caller's own task: two more for each request would cost more than all the rest of this.

    Raises TimeIsUp after `seconds`, and ClientGone once the client of the request has left, where the server tells that.
    """
    tell: Tell = scope.get("extensions", {}).get(LEAVING, _nobody)
    limit = asyncio.timeout(seconds)
    gone = _Gone(limit)
    try:
        async with limit:
            tell(gone)
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise (ClientGone if gone.is_gone else TimeIsUp) from None
    finally:
        tell(None)


class _Gone:
    """Called when the client has left: the time is up then."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self.is_gone = False

    def __call__(self) -> None:
        if not self._limit.expired():
            self.is_gone = True
            self._limit.reschedule(asyncio.get_running_loop().time())


def _nobody(_: Any) -> None:
    """For servers that do not tell."""
