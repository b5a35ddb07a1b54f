"""The buckets that all server processes share, through Redis; while it is away, each process counts for itself."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from settings import Settings
from transport.rates import Allowance, Buckets, Limit, Rate

log = logging.getLogger(__name__)

ANSWER_S = 0.25  # seconds; no request waits longer for a count
PAUSE_S = 5.0  # after a failure Redis is left alone for so long
OUTAGES = (OSError, aioredis.RedisError, TimeoutError)

# The same arithmetic as Buckets.take, by the one clock of Redis; times in microseconds. Answers whether it was taken, and the time
# until the bucket is full again.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window, count, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local one = window / count
local missing = math.max(tonumber(redis.call('GET', KEYS[1]) or now) - now, 0) + amount * one
if missing > window + one / 2 then return {0, math.floor(missing)} end
redis.call('SET', KEYS[1], string.format('%.0f', now + missing), 'PX', math.ceil(missing / 1000))
return {1, math.floor(missing)}
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one caller may spend: `requests` and `streams` of an address, `cost` of a viewer, or of an address without one.

    `tokens` are requests of an address at the token endpoints, which take no requests of the others.
    """

    requests: Rate
    streams: Rate
    cost: Rate
    tokens: Rate


@asynccontextmanager
async def open_rates(settings: Settings) -> AsyncIterator[Rates]:
    """The rates of this server: shared when there is a Redis, this process's own when there is none."""
    if not settings.redis_url:
        yield own_rates(settings)
        return
    async with aioredis.Redis.from_url(
        settings.redis_url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0), protocol=2
    ) as client:
        yield Rates(*(SharedBuckets(limit, client) for limit in _limits(settings)))


def own_rates(settings: Settings) -> Rates:
    """The same for a process that is alone."""
    return Rates(*(Buckets(limit) for limit in _limits(settings)))


class SharedBuckets:
    """One bucket a key for all processes."""

    def __init__(self, limit: Limit, client: aioredis.Redis) -> None:
        self._limit = limit
        self._own = Buckets(limit)
        self._take = client.register_script(_TAKE)
        self._paused_until = 0.0

    async def take(self, key: str, amount: int = 1) -> Allowance:
        """Take that much. Raises RateLimited, and takes nothing, when less is left."""
        loop, limit = asyncio.get_running_loop(), self._limit
        if loop.time() < self._paused_until:
            return await self._own.take(key, amount)
        try:
            async with asyncio.timeout(ANSWER_S):
                taken, missing = await self._take([f"flotilla:rate:{limit.what}:{key}"], [int(limit.seconds * 1e6), limit.count, amount])
        except OUTAGES as error:
            self._paused_until = loop.time() + PAUSE_S
            log.warning("Redis does not answer (%s): this process counts %s by itself for %g s.", error, limit.what, PAUSE_S)
            return await self._own.take(key, amount)
        if not taken:
            raise limit.refusal(missing / 1e6 - limit.seconds)
        return limit.allowance(missing / 1e6)


def _limits(settings: Settings) -> tuple[Limit, ...]:
    return (
        Limit(settings.requests_per_window, settings.rate_window_s, "requests"),
        Limit(settings.streams_per_window, settings.rate_window_s, "sockets opened"),
        Limit(settings.cost_per_window, settings.rate_window_s, "points of cost"),
        Limit(settings.token_requests_per_window, settings.rate_window_s, "token requests"),
    )
