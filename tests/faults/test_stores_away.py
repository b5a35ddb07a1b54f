"""PostgreSQL and Valkey killed, silent, or heard in one direction only: the API goes on or fails fast, and nothing acknowledged is lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest

from settings import Settings
from tests import servers
from tests.faults.altered import serving
from tests.faults.calls import Calls
from tests.faults.faults import Faults
from tests.faults.scene import SCALE, Scene, of_a_fleet, opened, until_equal
from tests.faults.test_show import at_work
from tests.processes import SERVE, ServerProcess
from tests.realtime.proxy import Proxy

AWAY_S = 4.0 if SCALE == 1 else 60.0
FAST_S = 5.0  # in which whoever asks has an answer, or a refusal


async def answers(server: ServerProcess, path: str, *, within_s: float = FAST_S) -> int:
    """The status of a probe, which has its time."""
    async with httpx.AsyncClient(trust_env=False, timeout=within_s) as client:
        return (await client.get(f"{server.url}{path}")).status_code


async def ready_again(server: ServerProcess, *, within_s: float = 15) -> float:
    begun = time.monotonic()
    while await answers(server, "/readyz") != 200:
        assert time.monotonic() - begun < within_s, "not ready again"
        await asyncio.sleep(0.1)
    return time.monotonic() - begun


@pytest.mark.timeout(120 + 10 * AWAY_S)
@pytest.mark.parametrize("command", [SERVE, serving("never_looks_by_itself")], ids=["as it is", "never looks by itself"])
async def test_without_redis_every_process_hears_the_others_and_nobody_waits(migrated_postgres: Settings, start_server, command) -> None:
    """Refused, silent, deaf or dumb. Publishing goes through one process, listening through the other."""
    with servers.Mortal(servers.valkey) as valkey:
        async with Proxy(valkey.server.url) as hints:
            settings = of_a_fleet(migrated_postgres, redis_url=hints.url, rate_limits=True)
            here = await asyncio.to_thread(start_server, settings)
            there = await asyncio.to_thread(start_server, settings, command=command)
            async with opened([here], settings.database_url) as scene, scene.resuming(url=there.url) as listener:
                await scene.publish(40)
                await scene.judge(listener)
                ways: list[Callable[[], object]] = [hints.freeze, lambda: hints.freeze(there=False), lambda: hints.freeze(back=False)]
                for way in ways:
                    way()
                    if command is not SERVE:
                        await asyncio.sleep(1)
                        await scene.publish(40)
                        with pytest.raises(AssertionError, match="were not heard"):
                            await scene.judge(listener, within_s=5)
                        return
                    await _goes_on(scene, [here, there], listener)
                    hints.thaw()
                valkey.kill()
                await hints.down()
                await _goes_on(scene, [here, there], listener)
                await hints.up((await asyncio.to_thread(valkey.start)).url)
                await scene.publish(40)
                (found,) = await scene.judge(listener)

    assert (found.connections, found.repeated) == (1, 0)


async def _goes_on(scene: Scene, running: list[ServerProcess], listener) -> None:
    until = time.monotonic() + AWAY_S
    while time.monotonic() < until:
        async with asyncio.timeout(FAST_S):  # two requests
            await scene.publish(40)
        await scene.judge(listener, within_s=10)
        assert [await answers(server, path) for server in running for path in ("/healthz", "/readyz")] == [200] * 4
        await asyncio.sleep(0.5)


async def fails_fast(scene: Scene, server: ServerProcess) -> None:
    """Without its database: not ready, alive, and whoever asks hears so."""
    begun = time.monotonic()
    while await answers(server, "/readyz") == 200:
        assert time.monotonic() - begun < FAST_S
    assert await answers(server, "/healthz") == 200
    async with httpx.AsyncClient(trust_env=False, timeout=15) as client:
        asked = await client.post(f"{server.url}/graphql", json={"query": "{ viewer { user { name } } }"}, headers=scene.client._headers())
    assert [error["extensions"]["code"] for error in asked.json()["errors"]] == ["INTERNAL"]


@pytest.mark.timeout(240 + 10 * AWAY_S)
@pytest.mark.parametrize("command", [SERVE, serving("acknowledges_before_the_commit")], ids=["as it is", "acknowledges early"])
async def test_postgresql_killed_silent_or_cut_costs_nothing_that_was_acknowledged(
    migrated_sqlite: Settings, start_server, command
) -> None:
    """No server is restarted for it."""
    with servers.postgres_on_disk() as start, servers.Mortal(start) as postgres:
        there = servers.new_database(postgres.server.url)
        name = servers.database_name(there)
        async with Proxy(there) as road:
            server = await asyncio.to_thread(start_server, of_a_fleet(migrated_sqlite, database_url=road.url), command=command)
            calls, over = Calls(), asyncio.Event()

            async def killed() -> None:
                postgres.kill()
                await road.down()
                await fails_fast(scene, server)
                acknowledged = len(scene.acknowledged)  # what was on its way has arrived
                await asyncio.sleep(1)
                assert len(scene.acknowledged) == acknowledged
                await road.up((await asyncio.to_thread(postgres.start)).url)
                await ready_again(server)

            def silent(*, there: bool, back: bool) -> Callable[[], Awaitable[None]]:
                async def fault() -> None:
                    road.freeze(there=there, back=back)
                    await fails_fast(scene, server)
                    await asyncio.sleep(AWAY_S)
                    assert await answers(server, "/healthz") == 200
                    road.thaw()
                    await ready_again(server)

                return fault

            async with opened([server], there, 10) as scene, scene.online(10, functions={"led": calls.led}), scene.resuming() as listener:
                ways = [silent(there=True, back=True), silent(there=True, back=False), silent(there=False, back=True)]
                faults = [killed, *ways, killed, Faults(scene).cut]
                if command is not SERVE:
                    with pytest.raises(AssertionError, match="acknowledged and lost"):
                        await at_work(scene, [killed], 400)
                        scene.database_url = f"{postgres.server.url.rsplit('/', 1)[0]}/{name}"
                        await scene.judge(listener)
                    return
                calling = asyncio.create_task(calls.keep_calling(scene.client, scene.ids[:3], over))
                await at_work(scene, faults * max(1, SCALE // 20), 100 * len(faults) * SCALE)
                over.set()
                await calling
                scene.database_url = f"{postgres.server.url.rsplit('/', 1)[0]}/{name}"
                (found,) = await scene.judge(listener)
    assert found.repeated == 0
    calls.judge()
    assert calls.refused, "the faults were not felt"


@pytest.mark.parametrize("command", [SERVE, serving("waits_for_ever_for_its_database")], ids=["as it is", "waits for ever"])
async def test_a_server_gives_up_connections_that_its_database_has_forgotten(migrated_postgres: Settings, start_server, command) -> None:
    """What a firewall does that forgets its connections: new ones pass, those of before stay silent. Another server publishes."""
    async with Proxy(migrated_postgres.database_url) as road:
        settings = of_a_fleet(migrated_postgres)
        other = await asyncio.to_thread(start_server, settings)
        # With one connection, so that everything it does waits for what is not answered.
        cut_off = await asyncio.to_thread(start_server, of_a_fleet(settings, database_url=road.url, database_pool_size=1), command=command)
        async with opened([other], settings.database_url) as scene, scene.resuming(url=cut_off.url) as listener:
            await scene.publish(40)
            await scene.judge(listener)
            road.freeze()
            await scene.publish(40)
            await asyncio.sleep(2)  # longer than the look that it takes anyway: it waits for an answer now
            road.forget()
            if command is SERVE:
                (found,) = await scene.judge(listener)
                assert (found.connections, found.repeated) == (1, 0)
                return
            with pytest.raises(AssertionError, match="were not heard"):
                await scene.judge(listener, within_s=20)
            cut_off.kill()  # it could not end either


@pytest.mark.parametrize("alteration", ["never_looks_by_itself", "listens_once"])
async def test_a_wake_up_connection_that_is_ended_comes_back_by_itself(migrated_postgres: Settings, start_server, alteration: str) -> None:
    """Through PostgreSQL; without its own look, so that nothing but a wake-up can tell the listener's server."""
    settings = of_a_fleet(migrated_postgres)
    here = await asyncio.to_thread(start_server, settings)
    there = await asyncio.to_thread(start_server, settings, command=serving(alteration))
    async with opened([here], settings.database_url) as scene, scene.resuming(url=there.url) as listener:
        await scene.publish(20)
        await scene.judge(listener)
        for _ in range(3 * SCALE):
            before = await scene.wakeup_connections()
            assert len(before) == 2
            await Faults(scene).end_the_wakeups_connections()
            await scene.publish(20)
            if alteration == "listens_once":
                with pytest.raises(AssertionError, match="were not heard"):
                    await scene.judge(listener, within_s=5)
                return
            await scene.judge(listener)

            async def again(before: frozenset[int] = before) -> bool:
                return len(await scene.wakeup_connections() - before) == 2

            await until_equal(again, True)
            await scene.publish(20)
            (found,) = await scene.judge(listener)

    assert (found.connections, found.repeated) == (1, 0)
