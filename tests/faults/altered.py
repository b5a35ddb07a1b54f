"""A server with one thing altered: `python -m tests.faults.altered NAME`. Most are defects that a fault test must notice."""

import asyncio
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cli
import worker
from fleet import following
from gateway.live import LiveFleet
from realtime import dispatcher, log
from realtime.cursor import Gap, parse
from realtime.dispatcher import Dispatcher, Reader
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
def drops_one_event_in_a_hundred() -> None:
    spread = Dispatcher._spread
    Dispatcher._spread = lambda self, entries: spread(self, [e for e in entries[:-1] if random.random() > 0.01] + entries[-1:])  # type: ignore[method-assign]


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
