"""What database engines are made of: work that a cancellation cannot cut in two, bounded waits, patience, and the end of a transaction."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tortoise.exceptions import TransactionManagementError

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0  # without a try at a database that could not be reached

ENDED = (
    "This task was started inside a transaction that is over, and still holds it. "
    "Start it with models.transaction.detached(), or after the commit with after_commit()."
)


class DatabaseBusy(TimeoutError):
    """No connection became free in time: the pool is exhausted, or one transaction holds SQLite's only connection."""


class DatabaseAway(ConnectionError):
    """The database could not be reached a moment ago, and was not asked again."""


class Patience:
    """How long a database that cannot be reached is left alone: after each failure twice as long, until one try succeeds.

    Everything in a process that waits for it asks again and again, each at its own pace; without this they would all be dialing.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._pause_s = 0.0
        self._again_at = 0.0

    def require(self) -> None:
        """Raises DatabaseAway while it is left alone."""
        if self._error is not None and time.monotonic() < self._again_at:
            raise DatabaseAway(f"The database could not be reached: {type(self._error).__name__}: {self._error}")

    def failed(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._again_at:  # of several tries that fail together the first one counts
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._again_at = now + self._pause_s * random.uniform(0.5, 1)
        self._error = error

    def succeeded(self) -> None:
        self._error, self._pause_s = None, 0.0


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards.

    For BEGIN, COMMIT and ROLLBACK, which cut in two leave a connection in a state nobody knows, and for the one statement that
    tells how an act has ended.
    """
    task = asyncio.ensure_future(work)
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            interrupted = True
    if interrupted:
        task.cancelled() or task.exception()  # taken, so that nobody reports it as never retrieved
        raise asyncio.CancelledError
    return task.result()


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Bound the wait for a connection. Raises DatabaseBusy; a TimeoutError from inside passes as it is."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise DatabaseBusy(f"No database connection became free within {seconds:g} s.") from None
        raise


def refuse_if_ended(ended: bool) -> None:
    """SQLite would silently write outside any transaction, PostgreSQL would fail obscurely: say it on both."""
    if ended:
        raise TransactionManagementError(ENDED)
