"""Sockets are cut and servers, Valkey and the wake-ups killed in turn: whoever listens hears exactly what was published, in order."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from settings import Settings
from tests import servers
from tests.faults.altered import serving
from tests.faults.faults import Faults
from tests.faults.scene import SCALE, Scene, of_a_fleet, opened
from tests.processes import ServerProcess
from tests.realtime.proxy import Proxy

Fault = Callable[[], Awaitable[None]]
EVENTS = 2000 * SCALE
ROUNDS = max(1, SCALE // 5)  # of five cuts each


async def at_work(scene: Scene, faults: list[Fault], events: int) -> None:
    """Publish, a part of it at a time, and let each fault happen in the middle of its part."""
    parts = len(faults) + 1
    for part, fault in enumerate((*faults, _nothing)):
        begun = asyncio.Event()
        count = events * (part + 1) // parts - events * part // parts
        happening = asyncio.create_task(_after(begun, fault))
        await scene.publish(count, begun.set)
        await happening


async def _after(begun: asyncio.Event, fault: Fault) -> None:
    await begun.wait()
    await fault()


async def _nothing() -> None:
    pass


@pytest.mark.timeout(120 + 30 * SCALE)
async def test_the_npm_client_hears_exactly_the_published_set_while_everything_is_killed_in_turn(
    migrated_postgres: Settings, start_server, capsys
) -> None:
    with servers.Mortal(servers.valkey) as valkey:
        async with Proxy(valkey.server.url) as hints:
            settings = of_a_fleet(migrated_postgres, redis_url=hints.url)
            running: list[ServerProcess] = [await asyncio.to_thread(start_server, settings) for _ in range(2)]
            async with opened(running, settings.database_url, 20) as scene, scene.online(20), AsyncExitStack() as listening:
                listeners = [scene.resuming(), scene.resuming(), scene.named("one"), scene.named("two")][:: 1 if SCALE == 1 else 2]
                for listener in listeners:
                    await listening.enter_async_context(listener)
                await scene.named_streams_begun(len(listeners) // 2)
                do = Faults(scene, hints, valkey)
                a_round = [
                    do.cut,
                    do.kill_a_server,
                    do.cut,
                    do.kill_valkey,
                    do.cut,
                    do.silence_the_wakeup,
                    do.cut,
                    do.kill_a_server,
                    do.cut,
                ]
                await at_work(scene, a_round * ROUNDS, EVENTS)
                found = await scene.judge(*listeners)

    assert len(scene.acknowledged) == EVENTS
    assert all(each.connections > ROUNDS for each in found), "a cut that comes while a client is away does not count"
    assert {each.repeated for each in found[: len(found) // 2]} == {0}, "who tells where it was hears nothing twice"
    with capsys.disabled():
        print(f"\n{EVENTS} events, {ROUNDS} rounds: {found}")


async def test_a_server_that_acknowledges_too_early_is_found_out(migrated_postgres: Settings, start_server) -> None:
    settings = of_a_fleet(migrated_postgres)
    server = await asyncio.to_thread(start_server, settings, command=serving("acknowledges_before_the_commit"))
    async with opened([server], settings.database_url, 10) as scene, scene.online(10), scene.resuming(url=server.url) as listener:
        await scene.publish(300)
        await Faults(scene).kill_a_server()
        await scene.publish(300)
        with pytest.raises(AssertionError, match="acknowledged and lost"):
            await scene.judge(listener, within_s=3)


async def test_a_server_that_resumes_from_now_is_found_out(migrated_postgres: Settings, start_server) -> None:
    """Something is said while whoever listens is away: there need not be anything they had not heard before the end."""
    settings = of_a_fleet(migrated_postgres)
    server, other = [await asyncio.to_thread(start_server, settings, command=serving("resumes_from_now")) for _ in range(2)]
    async with opened([server, other], settings.database_url, 10) as scene, scene.online(10), scene.resuming(url=server.url) as listener:
        await scene.publish(100)
        server.kill()
        await scene.publish(100)
        await asyncio.to_thread(server.start)
        await scene.publish(100)
        with pytest.raises(AssertionError, match="were not heard"):
            await scene.judge(listener, within_s=3)
