"""Answering for many rows at once: doors that can, and waiting for several of them side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, Generic, TypeVar

from tortoise.models import Model

Rows = Sequence[Any]


class ForAll:
    """A door written for many rows; called with one row it is a door like every other.

        @ForAll
        async def owner(devices: Rows, context: Context) -> Sequence[Customer | None]: ...

    The answers stand in the order of the rows.
    """

    def __init__(self, door: Callable[[Rows, Any], Awaitable[Sequence[Any]]]) -> None:
        self.for_all = door
        self.__name__ = door.__name__
        self.__doc__ = door.__doc__

    async def __call__(self, row: Any, context: Any) -> Any:
        (answer,) = await self.for_all([row], context)
        return answer


async def side_by_side(answers: Sequence[Any]) -> list[Any]:
    """The answers that have to be awaited, awaited at the same time; when one fails the others are stopped before it is told."""
    if len(answers) == 1:
        return [await _one(answers[0])]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer if asyncio.iscoroutine(answer) else _one(answer)) for answer in answers]
    return [task.result() for task in tasks]


async def _one(answer: Any) -> Any:
    return await answer if needs_awaiting(answer) else answer


# A row of the ORM can be awaited too, and is nothing but itself then: taken at its word it costs a task each.
_AT_HAND = (str, int, NoneType, Model, list, dict, datetime, float, tuple)


def needs_awaiting(value: object) -> bool:
    """Whether it is still to come."""
    return not isinstance(value, _AT_HAND) and hasattr(value, "__await__")


Key = TypeVar("Key")
Found = TypeVar("Found")


class Gathered(Generic[Key, Found]):
    """Loads what belongs to a key by `find`, which answers for all keys asked for at the same moment; for a key it leaves out, `missing()`.

    What was found is kept as long as the loader. A failure is told to everybody who waits for it and is not kept; when nobody waits any
    more, the asking ends.
    """

    def __init__(self, find: Callable[[list[Key]], Awaitable[Mapping[Key, Found]]], missing: Callable[[], Found]) -> None:
        self._find, self._missing = find, missing
        self._known: dict[Key, Found] = {}
        self._coming: dict[Key, _Batch] = {}
        self._next: _Batch | None = None

    async def load(self, key: Key) -> Found:
        return (await self.load_all([key]))[0]

    async def load_all(self, keys: Sequence[Key]) -> list[Found]:
        """For each key what belongs to it, in the same order."""
        known = self._known
        unread = [key for key in dict.fromkeys(keys) if key not in known]
        if len(unread) > 1 and self._coming.keys().isdisjoint(unread):
            await self._learn(unread)  # who asks for many has gathered them: no task, for nobody else waits for these
        elif unread:
            for batch in {self._batch_of(key) for key in unread}:
                await batch.wait()
        return list(map(known.__getitem__, keys))

    def learn(self, key: Key, found: Found) -> None:
        """What somebody has read already."""
        self._known[key] = found

    def _batch_of(self, key: Key) -> "_Batch":
        coming = self._coming.get(key)
        if coming is None or coming.is_over:
            if self._next is None or self._next.is_over:
                self._next = _Batch(self._read)
            self._next.keys.append(key)
            coming = self._coming[key] = self._next
        return coming

    async def _read(self, keys: list[Any]) -> None:
        """Begins when everything that was ready to run has asked."""
        self._next = None
        await self._learn(keys)

    async def _learn(self, keys: list[Key]) -> None:
        known = self._known
        known.update(await self._find(keys))
        for key in keys:
            if key not in known:
                known[key] = self._missing()


class _Batch:
    """Keys on their way, and how many wait for them."""

    def __init__(self, read: Callable[[list[Any]], Awaitable[None]]) -> None:
        self.keys: list[Any] = []
        self.is_over = False
        self._waiting = 0
        self._reading = asyncio.ensure_future(read(self.keys))

    async def wait(self) -> None:
        self._waiting += 1
        try:
            await asyncio.shield(self._reading)
        finally:
            self._waiting -= 1
            self.is_over = self.is_over or self._reading.done() or not self._waiting
            if not self._waiting:
                self._reading.cancel()
