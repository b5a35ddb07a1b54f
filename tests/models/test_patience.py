"""A database that cannot be reached is asked now and then, not by everybody at once; and soon again once it is back."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from models import database, engine
from models.engine import LONGEST_PAUSE_S, DatabaseAway, Patience
from models.sql import rows
from realtime.log import FAILURES
from settings import Settings
from tests.realtime.proxy import Proxy

Wait = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    """Let time pass, without waiting."""
    clock = SimpleNamespace(now=0.0)

    def wait(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return wait


def is_left_alone(patience: Patience) -> bool:
    try:
        patience.require()
    except DatabaseAway:
        return True
    return False


def test_each_failure_leaves_it_alone_for_longer_up_to_two_seconds(wait: Wait) -> None:
    patience, pauses = Patience(), []
    for _ in range(10):
        patience.failed(OSError("refused"))
        passed = 0.0
        while is_left_alone(patience):
            wait(0.01)
            passed += 0.01
        pauses.append(passed)

    assert 0.05 <= pauses[0] <= 0.11
    assert pauses[9] <= LONGEST_PAUSE_S + 0.01
    assert all(pause >= LONGEST_PAUSE_S / 2 for pause in pauses[6:])


def test_many_that_fail_together_count_as_one(wait: Wait) -> None:
    patience = Patience()
    for _ in range(100):
        patience.failed(OSError("refused"))
    wait(engine.FIRST_PAUSE_S)

    assert not is_left_alone(patience)


def test_one_success_begins_anew(wait: Wait) -> None:
    patience = Patience()
    for _ in range(10):
        patience.failed(OSError("refused"))
        wait(LONGEST_PAUSE_S)
    patience.succeeded()
    assert not is_left_alone(patience)
    patience.failed(OSError("refused"))
    wait(engine.FIRST_PAUSE_S)

    assert not is_left_alone(patience)


async def test_a_pool_without_its_server_dials_little_and_finds_it_again(postgres_settings: Settings) -> None:
    """Twenty askers, and a server that hangs up on everybody."""
    dialed = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialed
        dialed += 1
        writer.transport.abort()

    async def ask() -> None:
        for _ in range(50):
            with pytest.raises(FAILURES):
                await rows("SELECT 1 AS one")
            await asyncio.sleep(0.01)

    async with Proxy(postgres_settings.database_url) as road, database.database(replace(postgres_settings, database_url=road.url)):
        assert await database.ping()
        await road.down()
        there = await asyncio.start_server(hang_up, "127.0.0.1", urlsplit(road.url).port)
        await asyncio.gather(*(ask() for _ in range(20)))
        there.close()
        await road.up()
        async with asyncio.timeout(30):
            while not await database.ping():
                await asyncio.sleep(0.05)

    assert 1 <= dialed < 200  # of 1,000 questions
