"""Processes that stand still, that lose each other, or whose clocks jump: presence stays true, and no device is called twice."""

import asyncio
import contextlib
import os
import signal

import pytest

from settings import Settings
from tests.clients import Client
from tests.faults.altered import serving
from tests.faults.calls import Calls
from tests.faults.scene import SCALE, Scene, of_a_fleet, opened, until_equal
from tests.processes import SERVE, ServerProcess
from tests.realtime.proxy import Proxy

ROUNDS = 1 if SCALE == 1 else SCALE // 5
LEASE = {"beat_s": 0.5, "dead_after_s": 5.0} if SCALE == 1 else {"beat_s": 10.0, "dead_after_s": 30.0}
STOPPED_S = 0.5 if SCALE == 1 else 10.0  # and for as long as it takes until the others have noticed
NOTICED_S = LEASE["dead_after_s"] + 40


@contextlib.contextmanager
def stopped(server: ServerProcess):
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def until_online(scene: Scene, wanted: dict[str, bool]) -> None:
    await until_equal(scene.is_online, wanted, within_s=NOTICED_S)


@pytest.mark.timeout(200 + 120 * ROUNDS)
async def test_a_stopped_process_loses_its_devices_and_does_nothing_stale_or_twice_when_it_goes_on(
    migrated_postgres: Settings, start_server
) -> None:
    """Half of its devices come back elsewhere while it stands still; the others hold on to their sockets."""
    settings = of_a_fleet(migrated_postgres, call_timeout_s=2.0, **LEASE)
    living, standing = [await asyncio.to_thread(start_server, settings) for _ in range(2)]
    calls, over = Calls(), asyncio.Event()
    functions = {"led": calls.led}
    async with (
        opened([living], settings.database_url, 6) as scene,
        Proxy(standing.url) as road,
        scene.online(3, standing.url, functions=functions) as staying,
        scene.online(3, road.url, first=3, functions=functions) as moving,
        scene.resuming(url=living.url) as listener,
    ):
        all_online = dict.fromkeys(scene.ids, True)
        calling = asyncio.create_task(calls.keep_calling(scene.client, scene.ids, over))
        publishing = asyncio.create_task(scene.keep_publishing(0.2, over))
        for _ in range(ROUNDS):
            await until_online(scene, all_online)
            with stopped(standing):
                await road.down()
                await road.up(living.url)
                await until_online(scene, all_online | {device.flash.device_id: False for device in staying})
                await asyncio.sleep(STOPPED_S)
            await until_online(scene, all_online)
            await road.down()
            await road.up(standing.url)
        await until_online(scene, all_online)
        over.set()
        await asyncio.gather(calling, publishing)
        await scene.judge(listener)
        statuses = await scene.statuses()

    calls.judge()
    assert calls.refused["DEVICE_TIMEOUT"] + calls.refused["DEVICE_OFFLINE"] > 0, "the faults were not felt"
    for device in staying:
        assert statuses[device.flash.device_id] == ["ONLINE"] + ["OFFLINE", "ONLINE"] * ROUNDS
    for device in moving:
        assert statuses[device.flash.device_id][-1] == "ONLINE"


@pytest.mark.parametrize("alteration", [None, "calls_whatever_session_there_is"])
async def test_a_call_that_was_held_up_on_its_way_reaches_no_later_session(
    migrated_postgres: Settings, start_server, alteration: str | None
) -> None:
    """The caller's server has looked where the device is, and its word to PostgreSQL comes late: the device has connected anew."""
    async with Proxy(migrated_postgres.database_url) as road:
        command = serving(alteration) if alteration else SERVE
        holder = await asyncio.to_thread(start_server, of_a_fleet(migrated_postgres), command=command)
        asker = await asyncio.to_thread(start_server, of_a_fleet(migrated_postgres, database_url=road.url))
        calls = Calls()
        async with (
            opened([holder], migrated_postgres.database_url, 1) as scene,
            scene.online(1, functions={"led": calls.led}) as (device,),
            Client(asker.url, scene.client.token) as client,
        ):
            road.hold(b"INSERT INTO command")
            calling = asyncio.create_task(calls.call(client, scene.ids[0]))
            await asyncio.wait_for(road.holds.wait(), 60)
            before = device.welcome
            await device.reconnect()
            async with asyncio.timeout(60):
                while device.welcome is None or device.welcome is before:
                    await asyncio.sleep(0.05)
            road.release()
            code = await calling

    if alteration:
        assert calls.heard.total() == 1, "the defect was not felt"
    else:
        assert (code, calls.heard.total()) == ("DEVICE_OFFLINE", 0)


async def test_a_late_goodbye_that_is_believed_is_found_out(migrated_postgres: Settings, start_server) -> None:
    """T18 itself runs in tests/flows: here is what it has to notice."""
    settings = of_a_fleet(migrated_postgres)
    server = await asyncio.to_thread(start_server, settings, command=serving("believes_late_goodbyes"))
    async with opened([server], settings.database_url, 1) as scene, scene.online(1) as (former,):
        newer = type(former)(former.url, former.flash, pace=0.1)
        running = asyncio.create_task(newer.run())
        async with asyncio.timeout(60):
            await newer.online.wait()
        await until_equal(scene.is_online, {scene.ids[0]: False})
        assert newer.online.is_set()
        newer.stop()
        await running


@pytest.mark.parametrize("alteration", ["has_a_clock_that_jumps", "measures_leases_by_the_wall_clock"])
async def test_a_clock_that_jumps_an_hour_takes_nobody_offline(migrated_postgres: Settings, start_server, alteration: str) -> None:
    """Forward and back, on one process of two, with publishers and a listener on each."""
    settings = of_a_fleet(migrated_postgres, beat_s=2.0, dead_after_s=20.0)
    jumping = await asyncio.to_thread(start_server, settings, command=serving(alteration))
    other = await asyncio.to_thread(start_server, settings)
    is_defect = alteration == "measures_leases_by_the_wall_clock"
    async with (
        opened([jumping, other], settings.database_url, 4) as scene,
        scene.online(2, jumping.url),
        scene.online(2, other.url, first=2),
        scene.resuming(url=jumping.url) as here,
        scene.resuming(url=other.url) as there,
    ):
        online = dict.fromkeys(scene.ids, True)
        for way in [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR2, signal.SIGUSR1] * (10 if is_defect else 2):
            os.kill(jumping.pid, way)
            await scene.publish(20)
            await asyncio.sleep(1.5)  # longer than its pause between two looks at the others
            if is_defect and await scene.is_online() != online:
                return
        assert not is_defect, "the defect was not felt"
        assert await scene.is_online() == online
        assert await scene.statuses() == {id: ["ONLINE"] for id in scene.ids}
        await scene.judge(here, there)
