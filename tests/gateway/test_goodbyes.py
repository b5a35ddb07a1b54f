"""The gateway's socket under a real uvicorn: how a session ends, and what it leaves behind."""

import asyncio
import contextlib
import socket

import pytest

from gateway.protocol import Closing
from gateway.session import Limits, Step
from models.engine import DatabaseBusy
from tests.fake_fleet import serving, until
from tests.raw_device import ID, close_code, greet, heard, known, raw, say


# ── the goodbye ──
async def test_a_device_that_goes_is_left_once_and_nothing_remains():
    async with serving(known()) as served:
        async with raw(served.url) as ws:
            await greet(ws)
        await until(lambda: served.fleet.gone == [(1, None)])
        assert served.gateway.connections == set() and served.gateway.of_device == {}


async def test_a_device_that_answers_only_the_sockets_pings_stays():
    limits = Limits(keep_alive_s=1.0)
    async with serving(known(), limits) as served, raw(served.url) as ws:
        await greet(ws)
        await asyncio.sleep(4.0)  # four times the keep-alive without a word
        await say(ws, type="ping")

        assert (await heard(ws))["type"] == "pong"


@pytest.mark.parametrize(("error", "is_traced"), [(DatabaseBusy("no connection became free"), False), (RuntimeError("a defect"), True)])
async def test_a_device_whose_word_cannot_be_kept_is_sent_away_and_only_a_defect_leaves_a_trace(error, is_traced, caplog):
    fleet = known()

    async def update_status(*_):
        raise error

    fleet.update_status = update_status
    async with serving(fleet) as served, raw(served.url) as ws:
        await greet(ws)
        await say(ws, type="updateStatus", id="u1", state="DOWNLOADING", progress=40)
        assert await close_code(ws) == Closing.OVERLOADED

    told = [record for record in caplog.records if record.message.startswith("a device's word could not be kept")]
    assert [record.exc_info is not None for record in told] == [is_traced]


async def test_a_device_not_heard_for_twice_the_keep_alive_is_closed():
    async with serving(known(), Limits(keep_alive_s=0.3)) as served, raw(served.url) as ws:
        await greet(ws)
        connection = served.fleet.connections[ID]
        ws.transport.pause_reading()  # as with a pulled cable, nobody answers the pings
        await until(lambda: connection.session.step is Step.CLOSED)
        ws.transport.resume_reading()

        assert await close_code(ws) == 4408
        await until(lambda: served.fleet.gone == [(1, Closing.SILENT)])


async def slow_reader(served):
    """A device that says hello and then reads nothing any more, on a socket with small buffers."""
    bare = socket.socket()
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    bare.connect(("127.0.0.1", served.port))
    bare.setblocking(False)
    ws = await raw(served.url, sock=bare, max_queue=1).__aenter__()
    await greet(ws)
    ws.transport.pause_reading()
    return ws


async def test_a_device_that_does_not_read_is_closed_and_freed():
    async with serving(known()) as served:
        ws = await slow_reader(served)
        connection = served.fleet.connections[ID]
        call = connection.call("led", "on", 30.0)
        for _ in range(20_000):
            connection.event("door", "x" * 1024)
            await asyncio.sleep(0)
            if served.fleet.gone:
                break

        await until(lambda: served.fleet.gone == [(1, Closing.OVERLOADED)])
        assert (await call).failure == "DEVICE_OFFLINE"
        assert served.gateway.connections == set()
        await until(lambda: not served.server.server_state.connections)
        ws.transport.abort()


async def test_a_drain_closes_every_device_with_1012_spread_over_its_time_and_lets_nobody_in():
    ids = [f"{n:024x}" for n in range(20)]
    async with serving(known(*ids)) as served, contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(raw(served.url)) for _ in ids]
        for ws, id in zip(sockets, ids, strict=True):
            await greet(ws, id)
        started = asyncio.get_running_loop().time()

        codes = asyncio.gather(*(close_code(ws) for ws in sockets))
        await served.gateway.close_all(over_s=0.5)
        took = asyncio.get_running_loop().time() - started

        assert await codes == [1012] * 20
        assert 0.15 < took < 20 and served.gateway.connections == set()
        assert [code for _, code in served.fleet.gone] == [Closing.RESTARTING] * 20
        async with raw(served.url) as ws:
            assert await close_code(ws) == 1012


async def test_an_idle_device_costs_no_task():
    ids = [f"{n:024x}" for n in range(30)]
    async with serving(known(*ids)) as served, contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(raw(served.url)) for _ in ids]
        before = len(asyncio.all_tasks())
        for ws, id in zip(sockets, ids, strict=True):
            await greet(ws, id)
        await until(lambda: len(asyncio.all_tasks()) <= before)

        assert not served.server.server_state.tasks
        assert len(served.gateway.connections) == 30
