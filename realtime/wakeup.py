"""Wake-ups: "there may be something new", between the tasks of a process and between processes. A hint, never the truth.

Whoever listens reads the database at each hint and every second anyway, so a lost wake-up costs a second and nothing else.
Source: reliability, "Redis: a hint, never the truth".
"""

import asyncio
import contextlib
import logging
import random
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

import asyncpg

from settings import Settings

logger = logging.getLogger(__name__)

# Called with the hint, or with None: something may have been missed, look at everything. Must neither wait nor raise.
Listener = Callable[[str | None], None]
# Called with entries of the log that this process has just committed; True: what it needs of them it has, and need not be woken.
Taker = Callable[[Sequence[Any]], bool]

LOG = "log"  # entries were appended
COMMANDS = "commands"  # a command waits for a process, or was answered; the hint says which
JOBS = "jobs"  # a job was put down

SEND_S = 0.25  # seconds to hand one hint over; then it is dropped
PROBE_S = 5.0  # seconds of silence after which a listening connection has to prove that it is alive
PROBE_ANSWER_S = 2.0
RECONNECT_S = (0.1, 1.0)  # seconds between two tries to connect, first and longest


class Wakeup:
    """Wake-ups within one process; with one process, all that is needed."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}
        self._takers: list[Taker] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def notify(self, channel: str, hint: str = "") -> None:
        """Wake every listener of the channel, in every process. Never waits: sending goes on behind the caller's back."""
        self._ring(channel, hint)
        self._send_soon(channel, hint)

    def appended(self, entries: Sequence[Any]) -> None:
        """Entries were committed to the log: whoever reads it here may take them as they are, everybody else is woken."""
        taken = [take(entries) for take in self._takers]
        if not taken or not all(taken):
            self._ring(LOG, "")
        self._send_soon(LOG, "")

    def take(self, taker: Taker) -> Callable[[], None]:
        """Call `taker` with what is appended; the function returned ends that."""
        self._takers.append(taker)
        return lambda: self._takers.remove(taker)

    def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` at each hint; the function returned ends that."""
        listeners = self._listeners.setdefault(channel, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener) if listener in listeners else None

    def is_heard(self, channel: str) -> bool:
        """Whether anybody in this process listens."""
        return bool(self._listeners.get(channel))

    def _send_soon(self, channel: str, hint: str) -> None:
        """To the other processes; here are none."""

    def _ring(self, channel: str, hint: str | None) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            listener(hint)

    def _ring_everybody(self) -> None:
        for channel in tuple(self._listeners):
            self._ring(channel, None)


class RemoteWakeup(Wakeup, ABC):
    """What the two ways between processes share: a supervised listener, and a sender that nobody waits for.

    Hints that are waiting to be sent are kept once each, so a frozen server holds up neither memory nor a caller.
    """

    outages: ClassVar[tuple[type[Exception], ...]] = (OSError,)  # what needs no traceback; TimeoutError is an OSError

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic  # the name on the server; databases that share a server wake each other needlessly, and harmlessly
        self._sender = secrets.token_hex(8)
        self._unsent: dict[tuple[str, str], None] = {}
        self._has_unsent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._interrupted = False
        self._closing = False

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep_listening(), name="wake-up listener"),
            asyncio.create_task(self._keep_sending(), name="wake-up sender"),
        ]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing = True
        running = set(self._tasks)
        while running:  # more than once: redis-py 8.1 swallows a cancellation that comes in the middle of a command
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.1)

    def _send_soon(self, channel: str, hint: str) -> None:
        self._unsent[channel, hint] = None
        self._has_unsent.set()

    def _received(self, payload: str) -> None:
        sender, _, rest = payload.partition(" ")
        channel, _, hint = rest.partition(" ")
        if sender != self._sender:  # our own have been heard already
            self._ring(channel, hint)

    async def _keep_listening(self) -> None:
        pause = RECONNECT_S[0]
        while not self._closing:
            try:
                async with self._listening() as listening:
                    pause = RECONNECT_S[0]
                    self._told_of_an_outage(None)
                    self._ring_everybody()  # nobody knows what was said before
                    await listening()
            except self.outages as error:
                self._told_of_an_outage(error)
            except Exception:  # whatever else the client library makes of an outage: the listener must outlive it
                logger.exception("Wake-ups between processes are interrupted.")
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, RECONNECT_S[1])

    def _told_of_an_outage(self, error: Exception | None) -> None:
        """One line when it begins and one when it is over."""
        if error is not None and not self._interrupted:
            logger.warning("Wake-ups between processes are interrupted: %s: %s", type(error).__name__, error)
        elif error is None and self._interrupted:
            logger.warning("Wake-ups between processes pass again.")
        self._interrupted = error is not None

    async def _keep_sending(self) -> None:
        while not self._closing:
            await self._has_unsent.wait()
            self._has_unsent.clear()
            unsent, self._unsent = self._unsent, {}
            for channel, hint in unsent:
                try:
                    async with asyncio.timeout(SEND_S):
                        await self._send(f"{self._sender} {channel} {hint}")
                except self.outages as error:  # the others find it within their second
                    logger.debug("A wake-up was not sent: %s: %s", type(error).__name__, error)
                except Exception:  # as above
                    logger.exception("A wake-up was not sent.")

    @abstractmethod
    def _listening(self) -> contextlib.AbstractAsyncContextManager[Callable[[], Any]]:
        """Connect and subscribe; yields what listens until the connection is lost. Whatever it raises means "try again"."""

    @abstractmethod
    async def _send(self, payload: str) -> None: ...


class PostgresWakeup(RemoteWakeup):
    """LISTEN and NOTIFY on a connection of its own, which a pool in transaction mode would not carry."""

    outages = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

    def __init__(self, url: str, *, topic: str = "flotilla") -> None:
        super().__init__(topic)
        self._url = url
        self._connection: Any = None
        self._turn = asyncio.Lock()  # a connection runs one statement at a time

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Callable[[], Any]]:
        options = {"application_name": "flotilla wake-up"}
        connection = await asyncpg.connect(self._url, timeout=5, command_timeout=PROBE_ANSWER_S, server_settings=options)
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._topic, lambda _connection, _pid, _channel, payload: self._received(payload))
            self._connection = connection
            yield lambda: self._probe(lost)
        finally:
            self._connection = None
            connection.terminate()

    async def _probe(self, lost: asyncio.Event) -> None:
        """A peer that vanished without a word is noticed by asking it."""
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await lost.wait()
            if not lost.is_set():
                await self._execute("SELECT 1")
        raise ConnectionError("PostgreSQL closed the connection.")

    async def _send(self, payload: str) -> None:
        if self._connection is not None:
            await self._execute("SELECT pg_notify($1, $2)", self._topic, payload)

    async def _execute(self, statement: str, *values: str) -> None:
        async with self._turn:
            await self._connection.execute(statement, *values)


# ── this process's own ──
_installed: Wakeup | None = None


@asynccontextmanager
async def open_wakeup(settings: Settings) -> AsyncIterator[Wakeup]:
    """Redis if there is one, else PostgreSQL's NOTIFY, else within the process; notify() sends through it while it is open."""
    global _installed
    async with choose(settings) as chosen:
        before, _installed = _installed, chosen
        try:
            yield chosen
        finally:
            _installed = before


def choose(settings: Settings) -> Wakeup:
    if settings.redis_url:
        from realtime.redis_wakeup import RedisWakeup  # the embedded mode has no use for the client library

        return RedisWakeup(settings.redis_url)
    return Wakeup() if settings.is_sqlite else PostgresWakeup(settings.database_url)


def notify(channel: str, hint: str = "") -> None:
    """Through the process's wake-up. A process without one, such as a command, is found by the readers' own look every second."""
    if _installed is not None:
        _installed.notify(channel, hint)


def appended(entries: Sequence[Any]) -> None:
    """As notify(), of entries that were committed to the log."""
    if _installed is not None:
        _installed.appended(entries)
