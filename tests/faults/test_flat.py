"""Whatever comes and goes, a server that lives through it is afterwards as it was before: memory, files, tasks, sockets."""

import asyncio
import os
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from realtime.dispatcher import RING
from settings import Settings
from tests import servers
from tests.clients import Refused
from tests.faults.faults import Faults
from tests.faults.scene import Measured, Scene, measured, of_a_fleet, opened
from tests.realtime.proxy import Proxy

MINUTES = float(os.environ.get("FAULTS_MINUTES", "0"))  # 0: three rounds
SAMPLES = os.environ.get("FAULTS_SAMPLES")  # a file for a line a round
WARM_UP = 0.2  # of the time: pools open, each of their connections prepares its statements
SPREAD = 5 if MINUTES else 1  # rounds whose median is compared: what the allocator holds back differs from one to the next


async def a_round(scene: Scene, do: Faults, before: str) -> None:
    """Listeners come, are cut, hear everything and go; one stalls; somebody mistypes; the other server and Valkey are killed.

    Every round is as much work as the one before: what was said earlier is not heard again.
    """
    await scene.begin_anew()
    lasting = scene.servers[-1]
    stalled = await scene.stalled(before, lasting.url)
    async with AsyncExitStack() as listening:
        listeners = [scene.resuming(url=lasting.url), scene.resuming(), scene.named("one")]
        for listener in listeners:
            await listening.enter_async_context(listener)
        await scene.named_streams_begun(1)
        with pytest.raises(Refused):
            await scene.client.ask("{ me { name }")
        for fault in (do.cut, do.kill_valkey, do.cut, do.silence_the_wakeup):
            await scene.publish(20)
            await fault()
        scene.servers[0].kill()
        await asyncio.to_thread(scene.servers[0].start)
        await scene.publish(20)
        await scene.judge(listeners[1])
    stalled.close()


async def at_rest(scene: Scene, *, within_s: float = 30) -> Measured:
    """How the lasting server stands once its sockets have gone."""
    async with asyncio.timeout(within_s):
        while (await measured(scene.servers[-1])).sockets:
            await asyncio.sleep(0.2)
    await asyncio.sleep(1.5)  # a kept name is written once a second, and its task then ends
    return await measured(scene.servers[-1])


@pytest.mark.timeout(180 + 90 * MINUTES)
async def test_a_server_is_after_all_of_it_as_it_was_before(migrated_postgres: Settings, start_server) -> None:
    with servers.Mortal(servers.valkey) as valkey:
        async with Proxy(valkey.server.url) as hints:
            settings = of_a_fleet(migrated_postgres, redis_url=hints.url, stalled_reader_s=2.0, event_data_max_bytes=16384)
            running = [await asyncio.to_thread(start_server, settings) for _ in range(2)]
            async with opened(running, settings.database_url, 6) as scene, scene.online(6):
                if MINUTES:
                    await scene.publish(RING + RING // 10)  # what is kept of the log is full from the beginning
                before = await scene.fill()
                scene.servers[:] = running
                do = Faults(scene, hints, valkey)
                found: list[tuple[float, Measured]] = []
                begun = time.monotonic()
                while len(found) < 3 or time.monotonic() - begun < MINUTES * 60:
                    await a_round(scene, do, before)
                    found.append((time.monotonic() - begun, await at_rest(scene)))
                    if SAMPLES:
                        with Path(SAMPLES).open("a") as file:
                            file.write(f"{found[-1][0]:.0f} s: {found[-1][1]}\n")

    settled = found[int(len(found) * WARM_UP) if MINUTES else 0 :]
    first, last = settled[0][1], settled[-1][1]
    before_rss, after_rss = (statistics.median(each.rss for _, each in some) for some in (settled[:SPREAD], settled[-SPREAD:]))
    assert last.tasks <= first.tasks + 2, found
    assert last.fds <= first.fds + 5, found
    assert after_rss <= before_rss * (1.05 if MINUTES else 1.3), found
