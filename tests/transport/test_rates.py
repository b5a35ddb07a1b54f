"""A bucket per key: spent at once or evenly, full again after its window."""

import pytest

from errors import RateLimited
from transport.rates import Buckets, Limit, address_key


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_bucket_gives_its_count_and_then_says_how_long_to_wait(clock):
    buckets = Buckets(Limit(3, 30, "requests"), clock=clock)

    left = [(await buckets.take("a")).remaining for _ in range(3)]
    with pytest.raises(RateLimited) as refused:
        await buckets.take("a")

    assert left == [2, 1, 0]
    assert refused.value.retry_after == 10


async def test_a_refusal_takes_nothing_and_time_gives_back(clock):
    buckets = Buckets(Limit(3, 30, "requests"), clock=clock)
    for _ in range(3):
        await buckets.take("a")
    for _ in range(5):
        with pytest.raises(RateLimited):
            await buckets.take("a")

    clock.now += 10

    assert (await buckets.take("a")).remaining == 0
    clock.now += 30
    assert (await buckets.take("a")).remaining == 2


async def test_keys_do_not_share(clock):
    buckets = Buckets(Limit(1, 30, "requests"), clock=clock)
    await buckets.take("a")

    assert (await buckets.take("b")).remaining == 0


async def test_what_costs_more_than_is_left_is_refused_while_less_still_goes(clock):
    buckets = Buckets(Limit(10, 20, "points"), clock=clock)
    await buckets.take("a", 6)

    with pytest.raises(RateLimited) as refused:
        await buckets.take("a", 5)

    assert refused.value.retry_after == 2
    assert (await buckets.take("a", 4)).remaining == 0


def test_an_ipv6_caller_is_its_network_and_a_mapped_one_its_ipv4():
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff") == "2001:db8::/64"
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") == "192.0.2.1"
    assert address_key(None) == "unknown"
