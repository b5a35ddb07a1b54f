"""What many ask for at once is done together, and nobody pays for another's fault."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.together import AT_MOST, Together


class Work:
    """Doubles numbers, and writes down what it was asked together; `faulty` ones fail whatever they are in."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.faulty: dict[int, Exception] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, asked: list[int]) -> Sequence[int]:
        self.batches.append(asked)
        await self.open.wait()
        for number in asked:
            if number in self.faulty:
                raise self.faulty[number]
        return [2 * number for number in asked]


@pytest.fixture
def work() -> Work:
    return Work()


async def test_what_arrives_during_a_piece_of_work_is_done_in_the_next(work: Work) -> None:
    together = Together(work, key=lambda number: number, name="double")
    work.open.clear()
    first = asyncio.create_task(together(1))
    while not work.batches:
        await asyncio.sleep(0)
    later = [asyncio.create_task(together(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    work.open.set()

    assert await asyncio.gather(first, *later) == [2, 4, 6, 8]
    assert work.batches == [[1], [2, 3, 4]]


async def test_the_second_of_one_key_waits_for_the_first_and_the_order_stays(work: Work) -> None:
    together = Together(work, key=lambda number: number % 10, name="double")

    assert await asyncio.gather(*map(together, (1, 11, 2, 21, 3))) == [2, 22, 4, 42, 6]
    assert work.batches == [[1, 2, 3], [11], [21]]


async def test_a_piece_of_work_is_bounded(work: Work) -> None:
    together = Together(work, key=lambda number: number, name="double")

    await asyncio.gather(*map(together, range(AT_MOST + 10)))

    assert [len(batch) for batch in work.batches] == [AT_MOST, 10]


async def test_a_fault_is_that_of_who_asked_for_it_alone(work: Work) -> None:
    together = Together(work, key=lambda number: number, name="double")
    work.faulty[2] = ValueError("two")

    one, two, three = await asyncio.gather(*map(together, (1, 2, 3)), return_exceptions=True)

    assert (one, three) == (2, 6)
    assert two is work.faulty[2]
    assert work.batches == [[1, 2, 3], [1], [2], [3]]


async def test_a_database_that_is_away_is_not_asked_again_for_each(work: Work) -> None:
    together = Together(work, key=lambda number: number, name="double")
    work.faulty[2] = ConnectionRefusedError()

    answers = await asyncio.gather(*map(together, (1, 2, 3)), return_exceptions=True)

    assert answers == [work.faulty[2]] * 3
    assert work.batches == [[1, 2, 3]]


async def test_what_nobody_waits_for_any_more_is_done_and_told(work: Work) -> None:
    told: list[tuple[int, int]] = []
    together = Together(work, key=lambda number: number, name="double", unclaimed=lambda asked, answer: told.append((asked, answer)))
    work.open.clear()
    gone, stays = asyncio.create_task(together(1)), asyncio.create_task(together(2))
    while not work.batches:
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    work.open.set()

    assert await stays == 4
    assert told == [(1, 2)]
