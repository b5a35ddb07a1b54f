"""What every wake-up owes its listeners, whichever way it takes: one suite for all three."""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest

from realtime import wakeup
from realtime.chosen_wakeup import choose, open_wakeup
from realtime.postgres_wakeup import PostgresWakeup
from realtime.redis_wakeup import RedisWakeup
from realtime.wakeup import COMMANDS, LOG, Wakeup
from settings import Settings
from tests import servers
from tests.conftest import NewPostgresDatabase
from tests.realtime.proxy import Proxy
from tests.realtime.samples import until


@dataclass
class Bed:
    """Two processes' wake-ups, and the server between them if there is one."""

    here: Wakeup
    there: Wakeup
    proxy: Proxy | None


@asynccontextmanager
async def _local() -> AsyncIterator[Bed]:
    async with Wakeup() as both:
        yield Bed(both, both, None)


@asynccontextmanager
async def _between(proxy: Proxy, make: Callable[[str, str], Wakeup]) -> AsyncIterator[Bed]:
    topic = f"flotilla-{uuid.uuid4().hex}"
    async with proxy, make(proxy.url, topic) as here, make(proxy.url, topic) as there:
        await _heard(here, there)
        yield Bed(here, there, proxy)


@pytest.fixture(params=["local", "postgres", "redis"])
async def bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with _start(request, request.param) as bed:
        yield bed


@pytest.fixture(params=["postgres", "redis"])
async def remote(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    async with _start(request, request.param) as bed:
        yield bed


def _start(request: pytest.FixtureRequest, kind: str) -> AbstractAsyncContextManager[Bed]:
    if kind == "local":
        return _local()
    if kind == "postgres":
        return _between(Proxy(request.getfixturevalue("postgres_url")), lambda url, topic: PostgresWakeup(url, topic=topic))
    return _between(Proxy(request.getfixturevalue("redis_url")), lambda url, topic: RedisWakeup(url, topic=topic))


async def _heard(sender: Wakeup, receiver: Wakeup) -> None:
    """Returns once what `sender` says arrives at `receiver`, and nothing said here is still on its way."""
    heard: list[str | None] = []
    stop = receiver.listen(LOG, heard.append)
    async with asyncio.timeout(60):
        while True:
            sender.notify(LOG, word := uuid.uuid4().hex)
            with contextlib.suppress(TimeoutError):
                await until(lambda: word in heard, 1)  # the last said is the last heard
                break
    stop()


# ── the contract ──
async def test_a_hint_reaches_the_listeners_of_its_channel_here_and_there(bed: Bed) -> None:
    here: list[str | None] = []
    there: list[str | None] = []
    other: list[str | None] = []
    bed.here.listen(LOG, here.append)
    bed.there.listen(LOG, there.append)
    bed.there.listen(COMMANDS, other.append)

    bed.here.notify(LOG, "a hint with spaces")

    await until(lambda: there)
    assert here == there == ["a hint with spaces"]
    assert other == []


async def test_this_process_hears_at_once_and_only_once(bed: Bed) -> None:
    heard: list[str | None] = []
    bed.here.listen(LOG, heard.append)

    bed.here.notify(LOG)

    assert heard == [""]
    await asyncio.sleep(0.1)
    assert heard == [""]


async def test_what_is_appended_wakes_everybody_but_those_here_who_took_it(bed: Bed) -> None:
    here: list[str | None] = []
    there: list[str | None] = []
    taken: list[object] = []
    bed.here.listen(LOG, here.append)
    bed.there.listen(LOG, there.append)
    stop = bed.here.take(lambda entries: taken.append(entries) is None)

    bed.here.appended(["one"])
    if bed.proxy is not None:  # there is another process
        await until(lambda: there == [""])
    assert (taken, here) == ([["one"]], [])

    leave_it = bed.here.take(lambda entries: False)
    bed.here.appended(["two"])
    assert (taken, here) == ([["one"], ["two"]], [""])
    leave_it()
    stop()
    bed.here.appended(["three"])
    assert (taken, here) == ([["one"], ["two"]], ["", ""])


async def test_who_has_stopped_listening_hears_nothing(bed: Bed) -> None:
    heard: list[str | None] = []
    stop = bed.here.listen(LOG, heard.append)

    stop()
    stop()
    bed.here.notify(LOG)

    assert heard == []


async def test_a_listener_that_stops_another_while_it_is_called_disturbs_nobody(bed: Bed) -> None:
    heard: list[str] = []
    stops: list[Callable[[], None]] = []
    bed.here.listen(LOG, lambda hint: stops[0]())
    stops.append(bed.here.listen(LOG, lambda hint: heard.append("second")))
    bed.here.listen(LOG, lambda hint: heard.append("third"))

    bed.here.notify(LOG)

    assert "third" in heard


async def test_notifying_never_waits(bed: Bed) -> None:
    started = time.perf_counter()

    for number in range(10_000):
        bed.here.notify(LOG, str(number % 10))

    assert time.perf_counter() - started < 10  # one that went to the server and back each time would take more


# ── what a server between them adds ──
async def test_after_an_outage_listeners_are_told_to_look_and_hints_pass_again(remote: Bed) -> None:
    assert remote.proxy is not None
    heard: list[str | None] = []
    remote.there.listen(COMMANDS, heard.append)

    await remote.proxy.down()
    for _ in range(20):
        remote.here.notify(COMMANDS, "lost")
        await asyncio.sleep(0.01)
    assert heard == []
    await remote.proxy.up()

    await until(lambda: None in heard)
    await _heard(remote.here, remote.there)


async def test_an_outage_longer_than_the_client_library_bears_is_survived(remote: Bed) -> None:
    """redis-py's own listen() ends for good after about four seconds."""
    assert remote.proxy is not None
    await remote.proxy.down()
    await asyncio.sleep(6)
    await remote.proxy.up()

    await _heard(remote.here, remote.there)
    await _heard(remote.there, remote.here)


async def test_a_frozen_server_slows_no_caller_and_hints_pass_again_after_it(remote: Bed) -> None:
    assert remote.proxy is not None
    heard: list[str | None] = []
    remote.here.listen(LOG, heard.append)
    remote.proxy.freeze()

    slowest = 0.0
    for _ in range(50):
        started = time.perf_counter()
        remote.here.notify(LOG)
        slowest = max(slowest, time.perf_counter() - started)
        await asyncio.sleep(0.01)
    remote.proxy.thaw()

    assert slowest < 5  # one that waited would wait for the thaw
    assert heard[:50] == [""] * 50
    await _heard(remote.here, remote.there)


async def test_a_server_that_falls_silent_for_good_is_noticed(remote: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is reset and nothing answers: without the probe the listener would wait on the dead connection for ever."""
    assert remote.proxy is not None
    for name, seconds in (("PROBE_S", 0.2), ("PROBE_ANSWER_S", 0.2)):
        monkeypatch.setattr(f"realtime.postgres_wakeup.{name}", seconds)
        monkeypatch.setattr(f"realtime.redis_wakeup.{name}", seconds)
    await remote.proxy.down()  # so that all listen under the short times
    await remote.proxy.up()
    await _heard(remote.here, remote.there)
    told: list[str | None] = []
    remote.there.listen(COMMANDS, told.append)

    remote.proxy.freeze()
    await until(lambda: remote.there._interrupted)  # type: ignore[attr-defined]
    remote.proxy.thaw()

    await until(lambda: None in told)
    await _heard(remote.here, remote.there)


async def test_hints_that_cannot_be_sent_take_no_memory(remote: Bed) -> None:
    assert remote.proxy is not None
    await remote.proxy.down()

    for _ in range(1000):
        remote.here.notify(LOG)
        remote.here.notify(COMMANDS, "a process")

    assert len(remote.here._unsent) == 2  # type: ignore[attr-defined]


async def test_valkey_killed_and_another_in_its_place(redis_url: str) -> None:
    with servers.valkey() as first:
        if first.pid is None:
            pytest.skip("TEST_REDIS_URL names a server that is not ours to kill.")
        async with _between(Proxy(first.url), lambda url, topic: RedisWakeup(url, topic=topic)) as bed:
            assert bed.proxy is not None
            os.kill(first.pid, signal.SIGKILL)
            await asyncio.sleep(1)
            await bed.proxy.down()
            await bed.proxy.up(redis_url)

            await _heard(bed.here, bed.there)
            await _heard(bed.there, bed.here)


async def test_a_stopped_valkey_slows_no_caller(redis_url: str) -> None:
    with servers.valkey() as server:
        if server.pid is None:
            pytest.skip("TEST_REDIS_URL names a server that is not ours to stop.")
        async with _between(Proxy(server.url), lambda url, topic: RedisWakeup(url, topic=topic)) as bed:
            os.kill(server.pid, signal.SIGSTOP)
            try:
                started = time.perf_counter()
                for _ in range(100):
                    bed.here.notify(LOG)
                    await asyncio.sleep(0)
                assert time.perf_counter() - started < 10
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await _heard(bed.here, bed.there)


async def test_a_listening_connection_that_postgresql_ends_is_made_again(new_postgres_database: NewPostgresDatabase) -> None:
    postgres_url = new_postgres_database()  # of its own: it ends every listener there
    async with _between(Proxy(postgres_url), lambda url, topic: PostgresWakeup(url, topic=topic)) as bed:
        told: list[str | None] = []
        bed.there.listen(COMMANDS, told.append)
        admin = await asyncpg.connect(postgres_url)
        ended = await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'flotilla wake-up' AND datname = current_database()"
        )
        await admin.close()

        assert len(ended) >= 2
        await until(lambda: None in told)
        await _heard(bed.here, bed.there)


async def test_closing_in_the_middle_of_sending_ends(remote: Bed) -> None:
    """redis-py swallows a cancellation in the middle of a command: the sender went on for ever, and so did the shutdown."""

    async def chatter() -> None:
        while True:
            remote.here.notify(LOG, uuid.uuid4().hex)
            await asyncio.sleep(0)

    chattering = asyncio.create_task(chatter())
    await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(30):
            await remote.here.__aexit__()
    finally:
        chattering.cancel()
    assert all(task.done() for task in remote.here._tasks)  # type: ignore[attr-defined]


# ── which one ──
@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (Settings(), Wakeup),
        (Settings(database_url="postgres://127.0.0.1/x"), PostgresWakeup),
        (Settings(database_url="postgres://127.0.0.1/x", redis_url="redis://127.0.0.1"), RedisWakeup),
        (Settings(redis_url="redis://127.0.0.1"), RedisWakeup),
    ],
)
async def test_the_settings_choose(settings: Settings, kind: type[Wakeup]) -> None:
    chosen = choose(settings)

    assert type(chosen) is kind
    with contextlib.suppress(OSError):
        await chosen.__aexit__()


async def test_notify_goes_through_the_open_one_and_is_nothing_without() -> None:
    wakeup.notify(LOG)
    async with open_wakeup(Settings()) as chosen:
        heard: list[str | None] = []
        chosen.listen(LOG, heard.append)

        wakeup.notify(LOG, "x")

        assert heard == ["x"]
    wakeup.notify(LOG, "y")
    assert heard == ["x"]
