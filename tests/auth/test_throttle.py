"""Throttling: how many tries go ahead, however they are timed, spread or raced."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.throttle import (
    Allowance,
    Throttle,
    guesses_at,
    guesses_from,
    invitations_of,
    network_of,
    resets_for,
    resets_from,
    sign_ups_from,
    wait_s,
)
from errors import RateLimited

START = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
ADA = guesses_at("user/ada@analytical.example")


class MemoryLedger:
    """Nothing survives it, nothing is ever forgotten."""

    def __init__(self) -> None:
        self.times: dict[str, datetime] = {}

    async def read(self, key: str) -> datetime | None:
        return self.times.get(key)

    async def swap(self, key: str, *, old: datetime | None, new: datetime) -> bool:
        if self.times.get(key) != old:
            return False
        self.times[key] = new
        return True


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


async def test_ten_wrong_guesses_go_ahead_and_the_eleventh_waits_ten_seconds():
    throttle = Throttle(MemoryLedger())
    for _ in range(10):
        await throttle.take(ADA, now=START)

    with pytest.raises(RateLimited) as refused:
        await throttle.take(ADA, now=START)

    assert refused.value.code == "RATE_LIMITED"
    assert refused.value.retry_after == 10.0
    assert not await throttle.takes(ADA, now=at(9.999))
    assert await throttle.takes(ADA, now=at(10))
    assert not await throttle.takes(ADA, now=at(10))


async def test_a_refused_try_is_not_counted():
    ledger = MemoryLedger()
    throttle = Throttle(ledger)
    for _ in range(10):
        await throttle.take(ADA, now=START)
    before = dict(ledger.times)

    for _ in range(1000):
        assert not await throttle.takes(ADA, now=START)

    assert ledger.times == before


async def test_hammering_for_a_quarter_of_an_hour_gets_a_hundred_guesses():
    throttle = Throttle(MemoryLedger())

    passed = [await throttle.takes(ADA, now=at(tenth / 10)) for tenth in range(9000)]

    assert sum(passed) == 99  # the hundredth would be at second 900
    assert await throttle.takes(ADA, now=at(900))


@given(st.lists(st.floats(0, 400), min_size=1, max_size=200))
def test_no_rhythm_gets_more_than_its_share_in_any_stretch(pauses):
    """A window counted from its first try would let 99 guesses go at once at its end."""

    async def times_that_passed() -> list[float]:
        throttle, clock, passed = Throttle(MemoryLedger()), 0.0, []
        for pause in pauses:
            clock += pause
            passed += [clock for _ in range(12) if await throttle.takes(ADA, now=at(clock))]
        return passed

    passed = asyncio.run(times_that_passed())

    for first in range(0, len(passed), 7):
        for last in range(first, len(passed), 7):
            assert last - first + 1 <= 10 + (passed[last] - passed[first]) / 10 + 1e-3


async def test_of_a_hundred_simultaneous_guesses_ten_go_ahead():
    class Racing(MemoryLedger):
        async def read(self, key: str) -> datetime | None:
            seen = await super().read(key)
            await asyncio.sleep(0)  # everybody has read before anybody writes
            return seen

    throttle = Throttle(Racing())

    passed = await asyncio.gather(*(throttle.takes(ADA, now=START) for _ in range(100)))

    assert sum(passed) == 10


async def test_a_guess_that_was_right_is_given_back():
    throttle = Throttle(MemoryLedger())
    for _ in range(50):
        await throttle.take(ADA, now=START)
        await throttle.give_back(ADA, now=START)

    assert [await throttle.takes(ADA, now=START) for _ in range(11)] == [True] * 10 + [False]


async def test_giving_back_what_was_never_taken_or_is_long_paid_gives_no_credit():
    throttle = Throttle(MemoryLedger())
    await throttle.give_back(ADA, now=START)
    await throttle.take(ADA, now=START)

    await throttle.give_back(ADA, now=at(60))

    assert [await throttle.takes(ADA, now=at(60)) for _ in range(11)] == [True] * 10 + [False]


async def test_one_address_is_slowed_over_many_accounts_and_the_accounts_are_not_charged():
    ledger = MemoryLedger()
    throttle, address = Throttle(ledger), guesses_from("192.0.2.7")
    accounts = [guesses_at(f"user/{number}@x.example") for number in range(11)]
    for account in accounts[:10]:
        await throttle.take(account, address, now=START)

    assert not await throttle.takes(accounts[10], address, now=START)

    assert wait_s(accounts[10], ledger.times[accounts[10].key], START) == 0.0
    assert ledger.times[accounts[10].key] == START


async def test_the_longest_wait_is_told():
    throttle = Throttle(MemoryLedger())
    short, long = Allowance("short", at_once=1, every_s=1.0), Allowance("long", at_once=1, every_s=60.0)
    await throttle.take(short, long, now=START)

    with pytest.raises(RateLimited) as refused:
        await throttle.take(short, long, now=START)

    assert refused.value.retry_after == 60.0


@pytest.mark.parametrize(
    ("allowance", "times"),
    [
        (sign_ups_from("192.0.2.7"), 10),
        (resets_for("ada@x.example"), 10),
        (resets_from("192.0.2.7"), 10),
        (invitations_of("17"), 20),
    ],
)
async def test_ten_or_twenty_an_hour(allowance, times):
    throttle = Throttle(MemoryLedger())

    passed = [await throttle.takes(allowance, now=at(0)) for _ in range(times + 5)]

    assert sum(passed) == times
    assert not await throttle.takes(allowance, now=at(3600 / times - 0.001))
    assert await throttle.takes(allowance, now=at(3600 / times))


async def test_with_rate_limits_off_everything_goes_ahead_and_nothing_is_kept():
    ledger = MemoryLedger()
    throttle = Throttle(ledger, lifted=True)

    assert all([await throttle.takes(ADA, now=START) for _ in range(200)])
    await throttle.give_back(ADA, now=START)
    assert ledger.times == {}


def test_keys_tell_purposes_and_people_apart_but_not_letter_case_and_name_nobody():
    allowances = [guesses_at("a@x.example"), guesses_at("b@x.example"), guesses_from("a@x.example"), resets_for("a@x.example")]

    assert len({allowance.key for allowance in allowances}) == 4
    assert guesses_at("A@X.Example").key == guesses_at("a@x.example").key
    assert all("x.example" not in allowance.key and len(allowance.key) <= 64 for allowance in allowances)
    assert len(guesses_at("\ud800" + "x" * 100_000).key) <= 64


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_an_ipv6_host_cannot_escape_by_choosing_addresses(address, network):
    assert network_of(address) == network


def test_the_wait_is_a_function_of_the_stored_time_alone():
    waits = [wait_s(ADA, at(debt), START) for debt in (-100, 0, 90, 91, 100, 150)]

    assert waits == [0.0, 0.0, 0.0, 1.0, 10.0, 60.0]
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert wait_s(ADA, None, START) == 0.0
