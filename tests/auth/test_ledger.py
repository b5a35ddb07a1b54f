"""The throttle's times in the database: two processes count the same tries, also at the same moment."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from auth.ledger import TableLedger
from auth.throttle import Throttle, guesses_at
from errors import RateLimited
from tests.house import HouseTester

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
ANN = guesses_at("user/ann@example.com")


async def test_a_time_is_stored_only_in_the_place_of_the_one_that_was_read(tester: HouseTester) -> None:
    ledger = TableLedger()

    assert await ledger.read("k") is None
    assert await ledger.swap("k", old=NOW, new=LATER) is False
    assert await ledger.swap("k", old=None, new=NOW) is True
    assert await ledger.swap("k", old=None, new=LATER) is False
    assert await ledger.read("k") == NOW
    assert await ledger.swap("k", old=LATER, new=LATER) is False
    assert await ledger.swap("k", old=NOW, new=LATER) is True
    assert await ledger.read("k") == LATER


async def tries(number: int, *processes: Throttle) -> list[bool]:
    async def one(process: Throttle) -> bool:
        try:
            await process.take(ANN, now=NOW)
        except RateLimited:
            return False
        return True

    return list(await asyncio.gather(*(one(processes[n % len(processes)]) for n in range(number))))


async def test_of_thirty_tries_at_once_from_two_processes_ten_go_ahead(postgres_tester: HouseTester) -> None:
    assert sum(await tries(30, Throttle(TableLedger()), Throttle(TableLedger()))) == 10


async def test_what_one_process_counted_another_refuses_and_can_give_back(tester: HouseTester) -> None:
    one, other = Throttle(TableLedger()), Throttle(TableLedger())
    assert sum(await tries(10, one)) == 10

    with pytest.raises(RateLimited) as refused:
        await other.take(ANN, now=NOW)
    await other.give_back(ANN, now=NOW)

    assert refused.value.retry_after == 10.0
    assert sum(await tries(2, one)) == 1
