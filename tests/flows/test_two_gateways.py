"""Devices of two real server processes on one PostgreSQL: the newest session wins wherever it is, and a killed process takes nobody along."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from models.database import database
from models.organization import Organization
from models.product import Product
from models.sql import execute_many, rows
from public_keys import public_half
from realtime import log
from settings import Settings
from tests.connected import until
from tests.processes import ServerProcess
from tests.raw_device import KEY, close_code, greet, raw

IDS = [f"{number:024x}" for number in range(1, 21)]
ONE = IDS[0]
QUICK = {"beat_s": 0.2, "dead_after_s": 5.0}
Start = Callable[..., ServerProcess]


@pytest.fixture
async def servers(migrated_postgres: Settings, start_server: Start) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    """Two processes of one house, with devices that have KEY; and this test's own look into their database."""
    settings = dataclasses.replace(migrated_postgres, billing="off", **QUICK)
    async with database(settings):
        now = datetime.now(UTC)
        team = await Organization.create(slug="acme", name="Acme", created_at=now)
        product = await Product.create(number=1094, organization=team, slug="p", name="P", platform="PHOTON", created_at=now)
        sql = "INSERT INTO device (device_id, product_id, created_at, public_key) VALUES ($1, $2, $3, $4)"
        await execute_many(sql, [(id, product.id, now, public_half(KEY)) for id in IDS])
        yield start_server(settings), start_server(settings)


async def session(stack: contextlib.AsyncExitStack, server: ServerProcess, id: str = ONE) -> tuple[ClientConnection, int]:
    """An open socket that has been welcomed, and its epoch."""
    socket: ClientConnection = await stack.enter_async_context(raw(f"{server.websocket_url}/device"))
    welcome: dict[str, Any] = await greet(socket, id, productId=1094, firmwareVersion=1)
    return socket, int(welcome["sessionId"].rpartition("-")[2])


async def presence(id: str = ONE) -> dict[str, Any]:
    return (await rows("SELECT online, process, epoch FROM presence WHERE device_id = $1", [id]))[0]


async def said(name: str) -> list[str | None]:
    """The devices of which the log was told this."""
    return [entry.device_id for entry in (await log.read_after(0)).entries if entry.name == name]


def offline(ids: list[str]) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return sorted(str(id) for id in await said("OFFLINE")) == ids

    return is_so


async def test_one_device_with_two_sessions_in_turn_is_never_offline_while_the_newer_lives(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    """T18: a hundred times, now here and now there."""
    async with contextlib.AsyncExitStack() as stack:
        former, last = await session(stack, servers[0])
        for number in range(1, 100):
            newer, epoch = await session(stack, servers[number % 2])
            assert epoch == last + 1
            assert await close_code(former) == 4409
            now = await presence()
            assert (now["online"], now["epoch"]) == (True, epoch)
            former, last = newer, epoch
        assert await said("OFFLINE") == []
        assert await said("ONLINE") == [ONE]

    await until(lambda: is_offline(ONE))


async def is_offline(id: str) -> bool:
    return not (await presence(id))["online"]


async def test_many_devices_at_both_processes_at_once_end_with_one_session_each(servers: tuple[ServerProcess, ServerProcess]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        both = await asyncio.gather(*(session(stack, server, id) for id in IDS for server in servers))
        pairs = list(zip(both[::2], both[1::2], strict=True))

        assert [sorted(epoch for _, epoch in pair) for pair in pairs] == [[1, 2]] * len(IDS)
        older = [min(pair, key=lambda each: each[1])[0] for pair in pairs]
        assert await asyncio.gather(*map(close_code, older)) == [4409] * len(IDS)
        newer = [max(pair, key=lambda each: each[1])[0] for pair in pairs]
        assert await asyncio.gather(*(socket.ping() for socket in newer))
        assert all([(await presence(id))["online"] for id in IDS])
        assert sorted(str(id) for id in await said("ONLINE")) == IDS
        assert await said("OFFLINE") == []


async def test_the_devices_of_a_killed_process_go_offline_and_those_that_came_back_elsewhere_do_not(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    dying, living = servers
    async with contextlib.AsyncExitStack() as stack:
        for id in IDS:
            await session(stack, dying, id)
        dying.kill()
        back = IDS[:5]
        for id in back:
            await session(stack, living, id)

        await until(offline(IDS[5:]))
        assert [(await presence(id))["online"] for id in IDS] == [True] * 5 + [False] * 15


async def test_a_process_that_is_ended_sends_its_devices_away_and_they_are_not_told_offline(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    ending, living = servers
    async with contextlib.AsyncExitStack() as stack:
        sockets = [(await session(stack, ending, id))[0] for id in IDS]
        codes = asyncio.gather(*map(close_code, sockets))
        await asyncio.to_thread(ending.stop)

        assert await codes == [1012] * len(IDS)
        for id in IDS:
            await session(stack, living, id)
        assert await said("OFFLINE") == []
        assert sorted(str(id) for id in await said("ONLINE")) == IDS
