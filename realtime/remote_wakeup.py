"""Wake-ups between processes, whatever carries them: a supervised listener, and a sender that nobody waits for."""

import asyncio
import contextlib
import logging
import random
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

from realtime.wakeup import Wakeup

logger = logging.getLogger(__name__)

SEND_S = 0.25  # seconds to hand one hint over; then it is dropped
PROBE_S = 5.0  # seconds of silence after which a listening connection has to prove that it is alive
PROBE_ANSWER_S = 2.0
RECONNECT_S = (0.1, 1.0)  # seconds between two tries to connect, first and longest


class RemoteWakeup(Wakeup, ABC):
    """Hints that are waiting to be sent are kept once each, so a frozen server holds up neither memory nor a caller."""

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
