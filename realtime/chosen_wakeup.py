"""Which wake-up a server process has: Redis if there is one, else PostgreSQL's NOTIFY, else one within the process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from realtime.postgres_wakeup import PostgresWakeup
from realtime.wakeup import Wakeup, installed
from settings import Settings


@asynccontextmanager
async def open_wakeup(settings: Settings) -> AsyncIterator[Wakeup]:
    """The process's own: notify() and appended() send through it while it is open."""
    async with choose(settings) as chosen:
        with installed(chosen):
            yield chosen


def choose(settings: Settings) -> Wakeup:
    if settings.redis_url:
        from realtime.redis_wakeup import RedisWakeup  # the embedded mode has no use for the client library

        return RedisWakeup(settings.redis_url)
    return Wakeup() if settings.is_sqlite else PostgresWakeup(settings.database_url)
