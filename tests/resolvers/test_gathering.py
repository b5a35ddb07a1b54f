"""Doors for many rows at once, and loaders that ask once for all that is wanted at the same moment."""

import asyncio
import gc
import weakref
from collections.abc import Mapping

import pytest

from models.product import Product
from resolvers.gathering import ForAll, Gathered, Rows, needs_awaiting, side_by_side
from resolvers.loaders import Loaders


class Shelf:
    """Finds a text for every number but 0; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.fails = False

    async def find(self, keys: list[int]) -> Mapping[int, str]:
        self.asked.append(keys)
        await asyncio.sleep(0)
        if self.fails:
            raise OSError("the shelf is away")
        return {key: f"book {key}" for key in keys if key}

    def loader(self) -> Gathered[int, str]:
        return Gathered(self.find, lambda: "nothing")


async def test_what_is_wanted_at_the_same_moment_is_asked_for_once() -> None:
    shelf = Shelf()
    books = shelf.loader()

    found = await asyncio.gather(books.load(1), books.load_all([2, 1, 0]), books.load(3))

    assert found == ["book 1", ["book 2", "book 1", "nothing"], "book 3"]
    assert shelf.asked == [[1, 2, 0, 3]]


async def test_what_is_known_is_not_asked_for_again() -> None:
    shelf = Shelf()
    books = shelf.loader()
    await books.load(1)

    assert await books.load_all([1, 2]) == ["book 1", "book 2"]
    assert await books.load_all([]) == []
    assert shelf.asked == [[1], [2]]


async def test_a_failure_is_told_to_everybody_who_waited_and_not_kept() -> None:
    shelf = Shelf()
    books = shelf.loader()
    shelf.fails = True

    failures = await asyncio.gather(books.load(1), books.load(2), return_exceptions=True)
    shelf.fails = False

    assert [type(failure) for failure in failures] == [OSError, OSError]
    assert await books.load(1) == "book 1"


async def test_whoever_leaves_takes_nothing_from_the_others() -> None:
    books = Shelf().loader()
    leaving, staying = asyncio.ensure_future(books.load(1)), asyncio.ensure_future(books.load(2))
    await asyncio.sleep(0)

    leaving.cancel()

    assert await staying == "book 2"
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_what_was_asked_for_is_stopped_when_nobody_waits_any_more() -> None:
    stopped = asyncio.Event()

    async def find(keys: list[int]) -> Mapping[int, str]:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return {}

    leaving = asyncio.ensure_future(Gathered(find, str).load_all([1, 2]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    leaving.cancel()

    await asyncio.wait_for(stopped.wait(), 5)


async def test_what_nobody_waited_for_can_be_asked_for_again() -> None:
    """A plan that gave up left a loader behind that told graphql-core, which answered instead, that it was cancelled."""
    shelf = Shelf()
    books = shelf.loader()
    early, late = asyncio.ensure_future(books.load(1)), asyncio.ensure_future(books.load(2))
    await asyncio.sleep(0)

    early.cancel()
    late.cancel()
    await asyncio.wait({early, late})

    assert await books.load_all([1, 2]) == ["book 1", "book 2"]


async def test_a_door_for_many_answers_for_one() -> None:
    @ForAll
    async def double(rows: Rows, context: int) -> list[int]:
        return [row * 2 + context for row in rows]

    assert await double(3, 1) == 7
    assert await double.for_all([1, 2], 0) == [2, 4]


async def test_when_one_of_several_answers_fails_the_others_are_stopped() -> None:
    stopped = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError

    with pytest.raises(ExceptionGroup):
        await side_by_side([waits(), fails(), waits()])

    assert stopped == [True, True]


def test_a_row_is_there_already_though_it_could_be_awaited() -> None:
    answer = asyncio.sleep(0)

    assert needs_awaiting(answer)
    assert not needs_awaiting(Product(id=1))
    assert not any(needs_awaiting(value) for value in (None, "a", 1, [], {}))
    answer.close()


def test_loaders_are_gone_with_their_operation() -> None:
    """They once held each other, and with every message of a subscription a set of them waited for a full collection."""
    loaders = Loaders()
    left = weakref.ref(loaders.users)
    gc.disable()
    try:
        del loaders
        is_left = left() is not None
    finally:
        gc.enable()

    assert not is_left
