"""Connections are lent in the order in which they were asked for, and none is lost."""

import asyncio
from typing import Any

import pytest

from models.engine import DatabaseBusy
from models.lending import Lending


class Connection:
    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False
        self.busy = False

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.busy


class Pool:
    """Makes connections, and remembers which it was given back."""

    def __init__(self) -> None:
        self.made = 0
        self.back: list[int] = []

    def get_idle_size(self) -> int:
        return 0

    async def acquire(self) -> Connection:
        self.made += 1
        return Connection(self.made)

    async def release(self, connection: Connection, timeout: float) -> None:  # as asyncpg has it
        self.back.append(connection.number)


def lending(most: int = 1, timeout_s: float = 30.0) -> tuple[Lending, Pool]:
    pool = Pool()
    unread: Any = pool
    return Lending(unread, most=most, timeout_s=timeout_s), pool


async def asking(from_: Lending) -> "asyncio.Task[Any]":
    """Somebody who waits for a connection by now."""
    task = asyncio.create_task(from_.take())
    await asyncio.sleep(0)
    return task


async def test_whoever_has_waited_longest_is_served_before_whoever_comes_now() -> None:
    lent, pool = lending()
    first = await lent.take()
    second, third = await asking(lent), await asking(lent)

    lent.give_back(first)
    newcomer = await asking(lent)

    assert await second is first
    lent.give_back(first)
    assert await third is first
    assert not newcomer.done()
    lent.give_back(first)
    assert await newcomer is first
    assert (pool.made, pool.back) == (1, [])


async def test_what_came_for_somebody_who_had_left_goes_to_the_next() -> None:
    lent, _ = lending()
    first = await lent.take()
    leaving, staying = await asking(lent), await asking(lent)

    lent.give_back(first)
    leaving.cancel()

    assert await staying is first
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_whoever_leaves_the_queue_is_passed_over() -> None:
    lent, _ = lending()
    first = await lent.take()
    leaving, staying = await asking(lent), await asking(lent)
    leaving.cancel()
    await asyncio.sleep(0)

    lent.give_back(first)

    assert await staying is first


async def test_a_connection_that_is_given_up_is_made_anew_for_whoever_waits() -> None:
    lent, pool = lending()
    first = await lent.take()
    waiting = await asking(lent)
    first.busy = True

    assert not lent.give_back(first)
    await lent.give_up(first)

    assert (await waiting).number == 2
    assert pool.back == [1]


async def test_one_that_was_lost_while_it_lay_idle_is_replaced() -> None:
    lent, pool = lending()
    first = await lent.take()
    lent.give_back(first)
    first.closed = True

    assert (await lent.take()).number == 2
    assert pool.back == [1]


async def test_the_wait_is_bounded_and_leaves_nothing_behind() -> None:
    lent, pool = lending(timeout_s=0.01)
    first = await lent.take()

    with pytest.raises(DatabaseBusy):
        await lent.take()

    lent.give_back(first)
    assert await lent.take() is first
    assert pool.made == 1


async def test_at_the_end_all_that_lies_idle_goes_back_to_the_pool() -> None:
    lent, pool = lending(most=2)
    for each in [await lent.take(), await lent.take()]:
        lent.give_back(each)

    await lent.close()

    assert sorted(pool.back) == [1, 2]
