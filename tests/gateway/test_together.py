"""What many ask for at once is done together, and nobody pays for another's fault."""

import asyncio
from collections.abc import Callable, Hashable, Sequence

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


class Asking:
    """Whoever asks: `ask` one and all, `answers` is what came of it, once all have been answered."""

    def __init__(self, key: Callable[[int], Hashable] | None = None, *, pause_s: float = 0.0) -> None:
        self.work = Work()
        self.answers: dict[int, int | Exception] = {}
        self.together: Together[int, int] = Together(
            self.work, answered=self._take, failed=self._take, key=key, pause_s=pause_s, name="double"
        )

    def _take(self, asked: int, answer: int | Exception) -> None:
        assert asked not in self.answers
        if asked == 13 and not isinstance(answer, Exception):
            raise ArithmeticError("takes no answer")
        self.answers[asked] = answer

    def ask(self, *numbers: int) -> None:
        for number in numbers:
            self.together.ask(number)

    async def done(self) -> dict[int, int | Exception]:
        while self.together.task is not None:
            await asyncio.wait([self.together.task])
        return self.answers


async def test_what_arrives_during_a_piece_of_work_is_done_in_the_next() -> None:
    asking = Asking()
    asking.work.open.clear()
    asking.ask(1)
    while not asking.work.batches:
        await asyncio.sleep(0)
    asking.ask(2, 3, 4)
    asking.work.open.set()

    assert await asking.done() == {1: 2, 2: 4, 3: 6, 4: 8}
    assert asking.work.batches == [[1], [2, 3, 4]]


async def test_the_second_of_one_key_waits_for_the_first_and_the_order_stays() -> None:
    asking = Asking(key=lambda number: number % 10)
    asking.ask(1, 11, 2, 21, 3)

    assert await asking.done() == {1: 2, 11: 22, 2: 4, 21: 42, 3: 6}
    assert asking.work.batches == [[1, 2, 3], [11], [21]]


async def test_without_a_key_nobody_waits_for_anybody() -> None:
    asking = Asking()
    asking.ask(1, 2, 3)

    assert await asking.done() == {1: 2, 2: 4, 3: 6}
    assert asking.work.batches == [[1, 2, 3]]


async def test_a_piece_of_work_is_bounded() -> None:
    for key in (None, lambda number: number):
        asking = Asking(key)
        asking.ask(*range(100, AT_MOST + 110))

        assert len(await asking.done()) == AT_MOST + 10
        assert [len(batch) for batch in asking.work.batches] == [AT_MOST, 10]


async def test_after_a_piece_of_work_a_small_one_waits_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    asking, is_over, sleep = Asking(pause_s=0.125), asyncio.Event(), asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: is_over.wait() if seconds == 0.125 else sleep(seconds))
    asking.ask(1)
    while not asking.answers:
        await asyncio.sleep(0)
    asking.ask(2)
    await asyncio.sleep(0)
    asking.ask(3)
    is_over.set()

    assert await asking.done() == {1: 2, 2: 4, 3: 6}
    assert asking.work.batches == [[1], [2, 3]]


async def test_a_fault_is_that_of_who_asked_for_it_alone() -> None:
    asking = Asking()
    two = asking.work.faulty[2] = ValueError("two")
    asking.ask(1, 2, 3)

    assert await asking.done() == {1: 2, 2: two, 3: 6}
    assert asking.work.batches == [[1, 2, 3], [1], [2], [3]]


async def test_a_database_that_is_away_is_not_asked_again_for_each() -> None:
    asking = Asking()
    away = asking.work.faulty[2] = ConnectionRefusedError()
    asking.ask(1, 2, 3)

    assert await asking.done() == {1: away, 2: away, 3: away}
    assert asking.work.batches == [[1, 2, 3]]


async def test_who_cannot_take_an_answer_is_told_so_and_the_others_get_theirs() -> None:
    asking = Asking()
    asking.ask(12, 13, 14)

    answers = await asking.done()

    assert (answers[12], answers[14]) == (24, 28)
    assert isinstance(answers[13], ArithmeticError)
    assert asking.work.batches == [[12, 13, 14]]
