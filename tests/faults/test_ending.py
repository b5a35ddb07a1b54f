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
from tests.faults.altered import serving
from tests.faults.scene import EVENTS, SCALE, STATUS, Scene, of_a_fleet, opened
from tests.faults.test_readers import acknowledged, code_of, following
from tests.processes import SERVE, ServerFailed, ServerProcess
from tests.realtime.proxy import Proxy

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


@pytest.mark.parametrize("command", [SERVE, serving("ends_without_a_limit")], ids=["as it is", "without a limit"])
async def test_a_server_waits_for_no_stalled_reader_at_its_end(migrated_sqlite: Settings, start_server, command) -> None:
    server = await asyncio.to_thread(start_server, of_a_fleet(migrated_sqlite, event_data_max_bytes=16384), command=command)
    async with opened([server], "") as scene, scene.resuming(url=server.url) as healthy:
        stalled = [await scene.stalled(scene.begin, server.url) for _ in range(3)]
        await scene.fill()
        await healthy.until(lambda: len(healthy.messages) == 400)  # so the others have had what fits into their sockets
        if command is SERVE:
            assert await asyncio.to_thread(server.stop, timeout_s=WITHIN_S) == 0
        else:
            with pytest.raises(ServerFailed, match="still running 15 s after SIGTERM"):
                await asyncio.to_thread(server.stop, timeout_s=WITHIN_S)
        for peer in stalled:
            peer.close()


@pytest.mark.parametrize("is_killed", [True, False], ids=["refused", "silent"])
async def test_a_server_without_its_database_says_goodbye_all_the_same_and_ends_in_its_time(
    migrated_postgres: Settings, start_server, is_killed: bool
) -> None:
    async with Proxy(migrated_postgres.database_url) as road:
        server = await asyncio.to_thread(start_server, of_a_fleet(migrated_postgres, database_url=road.url))
        async with opened([server], migrated_postgres.database_url, 3) as scene, scene.online(3, server.url) as devices:
            readers = [await acknowledged(scene, server) for _ in range(3)]
            told = [asyncio.create_task(code_of(reader)) for reader in readers]
            if is_killed:
                await road.down()
            else:
                road.freeze()
            await asyncio.sleep(0.5)
            code = await asyncio.to_thread(_end, server)
            assert await asyncio.gather(*told) == [1012] * 3
            assert all(1012 in device.closed_with for device in devices)

    assert "draining failed" not in server.log()
    assert (code, "Not ended 14 s after the signal" in server.log()) in ((0, False), (1, not is_killed))


def _end(server: ServerProcess) -> int:
    return server.stop(timeout_s=WITHIN_S)
