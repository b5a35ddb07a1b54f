"""Dispatchers and readers that tests of the log look through."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from models.transaction import transaction
from realtime import dispatcher as dispatching
from realtime import log, wakeup
from realtime.chosen_wakeup import open_wakeup
from realtime.dispatcher import Dispatcher, Reader
from realtime.log import Entry
from realtime.wakeup import Wakeup
from settings import Settings
from tests.patience import PATIENCE_S
from tests.realtime.samples import an_event, until


@asynccontextmanager
async def running(ring: int = 20_000) -> AsyncIterator[Dispatcher]:
    async with open_wakeup(Settings()) as chosen, Dispatcher(chosen, ring=ring) as dispatcher:
        yield dispatcher


class Slow(Dispatcher):
    """One that no wake-up reaches, and that looks at its start and when it is told to."""

    def __init__(self) -> None:
        self._own = Wakeup()
        self.looks = 0
        super().__init__(self._own)

    async def _catch_up(self) -> None:
        await super()._catch_up()
        self.looks += 1

    def look(self) -> None:
        self._own.notify(wakeup.LOG)


@asynccontextmanager
async def slow_one(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Slow]:
    monkeypatch.setattr(dispatching, "LOOK_S", 3600)
    async with Slow() as slow:
        await until(lambda: slow.looks == 1)
        yield slow


async def append(*names: str, **fields: object) -> list[Entry]:
    async with transaction():
        return await log.append(*(an_event(name, **fields) for name in names))


async def take(reader: Reader, count: int) -> list[Entry]:
    """Exactly `count` entries; fails on a gap."""
    taken: list[Entry] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            found = await reader.next()
            assert isinstance(found, list)
            taken += found
    assert len(taken) == count
    return taken


async def nothing_comes(reader: Reader, seconds: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await reader.next()
    except TimeoutError:
        return True
    return False


def names(entries: Iterable[Entry]) -> list[str]:
    return [entry.name for entry in entries]
