"""SIGTERM in the middle of everything: whoever is there is told, what was acknowledged is kept, and the server is gone in its time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from settings import Settings
from simulator.device import SimulatedDevice
from simulator.faults import Faults as DeviceFaults
from simulator.flash import Flash
from tests.clients import Refused, Watcher
from tests.faults.scene import EVENTS, SCALE, STATUS, Scene, of_a_fleet, opened
from tests.faults.test_readers import acknowledged, code_of, following
from tests.processes import ServerProcess

ENDINGS = 3 if SCALE == 1 else SCALE
WITHIN_S = 15.0  # the promise; 10 is what the parts of the end add up to
READERS = 5  # of what is rare: whoever is behind with reading may be cut off instead of told
IDLE = 110  # sockets that follow nothing: with this crowd the whole time of the drain is used


async def _keep_asking(scene: Scene, query: str, at_once: int) -> None:
    """Whatever becomes of the answers: requests that are under way when the end comes."""

    async def one() -> None:
        while True:
            try:
                await scene.client.ask(query)
            except (httpx.HTTPError, ValueError, Refused):
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(at_once)))


@contextlib.asynccontextmanager
async def deaf_device(scene: Scene) -> AsyncIterator[str]:
    """One that answers no call, so that a call of it is under way for as long as its caller waits."""
    address = scene.front.url.replace("http", "ws") + "/device"
    flash, faults = Flash(scene.ids[-1], scene.product_id, 1), DeviceFaults(["never-answer"])
    device = SimulatedDevice(address, flash, provisioning_key=scene.key, pace=0.1, functions={"led": lambda _: 1}, faults=faults)
    running = asyncio.create_task(device.run())
    try:
        async with asyncio.timeout(60):
            await device.online.wait()
        yield scene.ids[-1]
    finally:
        device.stop()
        await running


@contextlib.asynccontextmanager
async def busy(scene: Scene, server: ServerProcess, before: str, deaf: str) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """Requests, publishers, calls, readers that follow and that stall, over sockets and as events of HTTP; who follows hears its code."""
    event = f'publishEvent(input: {{productId: {scene.product_id}, name: "filling", data: "x"}}) {{ event {{ id }} }}'
    listening = Watcher(server.url, scene.client.token, EVENTS, {"id": scene.product_id, "after": scene.begin}, events=True)
    async with listening:
        call = f'mutation {{ callFunction(input: {{deviceId: "{deaf}", name: "led", argument: ""}}) {{ returnValue errors {{ code }} }} }}'
        under_way = [asyncio.create_task(_keep_asking(scene, query, 4)) for query in (f"mutation {{ {event} }}", call)]
        under_way.append(asyncio.create_task(scene.publish(2_000)))
        try:
            stalled = [await scene.stalled(before, server.url) for _ in range(3)]
            readers = [await following(scene, server, STATUS) for _ in range(READERS)] + [
                await acknowledged(scene, server) for _ in range(IDLE)
            ]
            under_way += (told := [asyncio.create_task(code_of(reader)) for reader in readers])
            yield told
            for peer in stalled:
                peer.close()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


@pytest.mark.timeout(90 + 40 * ENDINGS)
async def test_a_server_in_the_middle_of_everything_ends_in_its_time(migrated_postgres: Settings, start_server, capsys) -> None:
    settings = of_a_fleet(migrated_postgres, event_data_max_bytes=16384)
    server = await asyncio.to_thread(start_server, settings)
    seconds = []
    async with opened([server], settings.database_url, 11) as scene, scene.online(10), deaf_device(scene) as deaf:
        before = await scene.fill()
        for _ in range(ENDINGS):
            async with busy(scene, server, before, deaf) as told:
                begun = time.monotonic()
                assert await asyncio.to_thread(server.stop, timeout_s=WITHIN_S) == 0
                seconds.append(time.monotonic() - begun)
                codes = await asyncio.gather(*told)
            assert codes == [1012] * (READERS + IDLE)
            await asyncio.to_thread(server.start)
        await scene.judge()

    assert "draining failed" not in server.log()
    with capsys.disabled():
        print(f"\n{ENDINGS} endings: {min(seconds):.1f} to {max(seconds):.1f} s")
