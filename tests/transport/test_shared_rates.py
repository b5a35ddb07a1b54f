"""One bucket for all processes in Redis, and each for itself while Redis is away."""

import asyncio

import pytest
import redis.asyncio as aioredis

from errors import RateLimited
from tests.servers import free_port
from transport import shared_rates
from transport.rates import Limit
from transport.shared_rates import SharedBuckets

HOUR = Limit(10, 3600, "points")


async def _spend(buckets: SharedBuckets, key: str, times: int, amount: int = 1) -> list[bool]:
    async def one() -> bool:
        try:
            await buckets.take(key, amount)
        except RateLimited:
            return False
        return True

    return await asyncio.gather(*(one() for _ in range(times)))


@pytest.fixture
def patient(monkeypatch):
    """However long Redis takes to answer."""
    monkeypatch.setattr(shared_rates, "ANSWER_S", 60)


async def test_two_processes_together_give_the_count_and_not_one_more(redis_url, patient):
    async with aioredis.Redis.from_url(redis_url) as one, aioredis.Redis.from_url(redis_url) as other:
        spent = await asyncio.gather(_spend(SharedBuckets(HOUR, one), "both", 30), _spend(SharedBuckets(HOUR, other), "both", 30))

    assert sum(map(sum, spent)) == 10


async def test_a_refusal_says_how_long_to_wait_and_takes_nothing(redis_url, patient):
    async with aioredis.Redis.from_url(redis_url) as client:
        buckets = SharedBuckets(HOUR, client)
        left = await buckets.take("waits", 7)
        with pytest.raises(RateLimited) as refused:
            await buckets.take("waits", 5)

        assert left.remaining == 3
        assert 600 <= refused.value.retry_after <= 720
        assert (await buckets.take("waits", 3)).remaining == 0


async def test_while_redis_is_away_a_process_counts_by_itself():
    async with aioredis.Redis.from_url(f"redis://127.0.0.1:{free_port()}") as client:
        buckets = SharedBuckets(HOUR, client)

        assert sum(await _spend(buckets, "alone", 15)) == 10
