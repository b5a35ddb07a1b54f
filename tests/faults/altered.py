"""A server with one thing altered: `python -m tests.faults.altered NAME`. Most are defects that a fault test must notice."""

import asyncio
import contextlib
import itertools
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

import app  # noqa: F401  # all that a server is, before any of it is altered
import cli
import transport.server
import worker
from fleet.events import following
from gateway import live
from gateway.live import LiveFleet
from gateway.server import Gateway
from models import database
from models.log import EntryKind
from realtime import commands, dispatcher, lease, log, presence
from realtime.cursor import Gap, parse
from realtime.dispatcher import Dispatcher, Reader
from realtime.lease import Watch
from realtime.postgres_wakeup import PostgresWakeup
from tests.processes import ROOT
from transport.server import Server
from transport.uvicorn_protocol import FiniteWebSocket
from transport.websocket import Conversation

ALTERATIONS: dict[str, Callable[[], None]] = {}
LEAKED: list[asyncio.Task[Any]] = []


def serving(name: str) -> tuple[str, ...]:
    """The command of a ServerProcess."""
    assert name in ALTERATIONS
    return (sys.executable, "-m", "tests.faults.altered", name)


def _alteration(alter: Callable[[], None]) -> Callable[[], None]:
    ALTERATIONS[alter.__name__] = alter
    return alter


@_alteration
def sweeps_often() -> None:
    """No defect: what is done once a minute is done twice a second."""
    worker.SWEEPS = tuple(replace(sweep, every_s=0.5) if sweep.name == "log retention" else sweep for sweep in worker.SWEEPS)


@_alteration
def acknowledges_before_the_commit() -> None:
    publish = LiveFleet.publish

    async def at_once(self: LiveFleet, *what: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(0.2)
            await publish(self, *what)

        LEAKED.append(asyncio.create_task(later()))

    LiveFleet.publish = at_once  # type: ignore[method-assign]


@_alteration
def drops_one_event_in_ten_thousand() -> None:
    """The three hundredth of each, so that a short run meets it."""
    spread, counted = Dispatcher._spread, itertools.count(1)

    def dropping(self: Dispatcher, entries: list[log.Entry]) -> None:
        kept = [each for each in entries if each.kind != EntryKind.EVENT or next(counted) % 10_000 != 300]
        if kept:
            spread(self, kept)
        self._end = entries[-1].cursor  # or it would be read again

    Dispatcher._spread = dropping  # type: ignore[method-assign]


@_alteration
def resumes_from_now() -> None:
    async def place(after: str, product_number: int) -> Any:
        return await log.head(product_number)

    following._place = place


@_alteration
def never_looks_by_itself() -> None:
    dispatcher.LOOK_S = 3600.0


@_alteration
def never_aborts() -> None:
    FiniteWebSocket._give_up = lambda self: None  # type: ignore[method-assign]
    FiniteWebSocket.keepalive_timeout = lambda self: None  # type: ignore[method-assign]


@_alteration
def ends_without_a_limit() -> None:
    """Nobody is cut off, and nothing is given up."""
    never_aborts()
    FiniteWebSocket.handle_connect = WebSocketsSansIOProtocol.handle_connect  # type: ignore[method-assign]
    FiniteWebSocket._end_within = lambda self, seconds: None  # type: ignore[method-assign]
    transport.server.GRACE_S = None  # type: ignore[assignment]
    transport.server._ProcessServer = Server  # type: ignore[misc]


@_alteration
def waits_for_ever_for_its_database() -> None:
    """No command timeout."""
    postgres = database._postgres

    def patient(*asked: Any) -> dict[str, Any]:
        made = postgres(*asked)
        made["credentials"]["pool"]["command_timeout"] = None
        return made

    database._postgres = patient


@_alteration
def listens_once() -> None:
    """Whoever loses the connection on which wake-ups come does not connect again; nor does anybody look without them."""

    async def once(self: PostgresWakeup) -> None:
        async with self._listening() as listening:
            with contextlib.suppress(*self.outages):
                await listening()
        await asyncio.Event().wait()

    PostgresWakeup._keep_listening = once  # type: ignore[method-assign]
    never_looks_by_itself()


@_alteration
def queues_without_bound() -> None:
    """No socket is ever full, and none is given up: what is not read is kept."""
    never_aborts()
    FiniteWebSocket.is_full = property(lambda self: False)  # type: ignore[assignment,method-assign]
    FiniteWebSocket.pause_writing = lambda self: None  # type: ignore[method-assign]
    FiniteWebSocket.resume_writing = lambda self: None  # type: ignore[method-assign]


@_alteration
def drops_what_a_sleeper_does_not_read() -> None:
    """A full socket stays open, and what comes meanwhile is not for it."""

    def while_there_is_room(self: FiniteWebSocket) -> Callable[[bytes], None]:
        return lambda frames: self.transport.write(frames) if self.writable.is_set() else None

    never_aborts()
    FiniteWebSocket.is_full = property(lambda self: False)  # type: ignore[assignment,method-assign]
    FiniteWebSocket.write_frames = property(while_there_is_room)  # type: ignore[assignment,method-assign]
    FiniteWebSocket.pause_writing = WebSocketsSansIOProtocol.pause_writing  # type: ignore[method-assign]


@_alteration
def accepts_as_many_as_come() -> None:
    Gateway._refusal = lambda self: None  # type: ignore[method-assign]


@_alteration
def calls_whatever_session_there_is() -> None:
    """Without a look at the epoch that a command was meant for."""

    async def deliver(self: LiveFleet, command: commands.Command) -> None:
        assert self._gateway is not None
        connection = self._gateway.of_device[command.device_id]
        LEAKED.append(asyncio.create_task(self._answer(command, live._put(command, connection))))

    LiveFleet.deliver = deliver  # type: ignore[method-assign]


@_alteration
def believes_late_goodbyes() -> None:
    """A session that ends takes the device offline, whichever session the device has by now."""
    went_offline = presence.went_offline

    async def of_any_session(leaving: Iterable[presence.Leaving], now: datetime) -> Any:
        epochs = {device_id: row["epoch"] for device_id, row in (await presence._held([each.device_id for each in leaving])).items()}
        return await went_offline([each._replace(epoch=epochs[each.device_id]) for each in leaving], now)

    presence.went_offline = of_any_session


@_alteration
def has_a_clock_that_jumps() -> None:
    """No defect: SIGUSR1 sets the clock of our own modules an hour forward, SIGUSR2 an hour back."""
    off = timedelta(0)

    class LikeDatetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Jumped(datetime, metaclass=LikeDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + off

    def jump(number: int, _: object) -> None:
        nonlocal off
        off += timedelta(hours=1 if number == signal.SIGUSR1 else -1)

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, jump)
    for module in [each for each in sys.modules.values() if str(getattr(each, "__file__", None)).startswith(f"{ROOT}/")]:
        if module.__name__ != __name__ and getattr(module, "datetime", None) is datetime:
            module.datetime = Jumped  # type: ignore[attr-defined]


@_alteration
def measures_leases_by_the_wall_clock() -> None:
    def by_the_wall(self: Watch, beats: Mapping[str, int], at: float) -> list[str]:
        now = lease.datetime.now(UTC).timestamp()
        since = {process: self._seen[process][1] for process, beat in beats.items() if self._seen.get(process, (None,))[0] == beat}
        self._seen = {process: (beat, since.get(process, now)) for process, beat in beats.items()}
        return [process for process, (_, began) in self._seen.items() if now - began >= self._dead_after_s]

    Watch.look = by_the_wall  # type: ignore[method-assign]
    has_a_clock_that_jumps()


@_alteration
def leaks_a_task_a_socket() -> None:
    end = Conversation._end

    async def leaking(self: Conversation) -> None:
        LEAKED.append(asyncio.create_task(asyncio.Event().wait()))
        await end(self)

    Conversation._end = leaking  # type: ignore[method-assign]


@_alteration
def believes_any_cursor() -> None:
    async def position(cursor: Any, *, product_number: int | None = None) -> int | Gap:
        return (parse(cursor) if isinstance(cursor, str) else cursor).position

    async def untold(self: Reader, start: int, purged_through: int) -> Any:
        self.position = purged_through
        return []

    log.check_cursor = position
    Reader._purged = untold  # type: ignore[method-assign]
    sweeps_often()


if __name__ == "__main__":
    ALTERATIONS[sys.argv[1]]()
    cli.main(["serve"], prog_name="flotilla")
