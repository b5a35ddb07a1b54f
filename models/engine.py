"""What both database engines share: work that a cancellation cannot cut in two, bounded waits, and the end of a transaction."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tortoise.exceptions import TransactionManagementError

T = TypeVar("T")

ENDED = (
    "This task was started inside a transaction that is over, and still holds it. "
    "Start it with models.transaction.detached(), or after the commit with after_commit()."
)


class DatabaseBusy(TimeoutError):
    """No connection became free in time: the pool is exhausted, or one transaction holds SQLite's only connection."""


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
