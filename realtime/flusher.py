"""Group commit of what devices publish: the next batch forms while the last one commits; a publisher is answered after the commit.

Source: reliability, "Order of the log" and "What a subscriber and a device are promised".
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Self

from tortoise.exceptions import IntegrityError, OperationalError

from models.sql import is_sqlite
from models.transaction import after_commit, detached, retrying, transaction
from realtime import log, tallies
from realtime.log import FAILURES, PAGE, Entry, NewEntry, Written
from realtime.wakeup import Wakeup

logger = logging.getLogger(__name__)

BATCH = PAGE  # entries a commit: each reader reads them in one statement
QUICK = 32  # entries at most in a commit on the event loop's own connection: half a millisecond
WAITING = 10_000  # publishers inside at once; further ones wait at the door
REFUSALS = (IntegrityError, OperationalError, ValueError, OverflowError, TypeError)  # something in the batch may be at fault


class NotStored(Exception):
    """The event could not be committed, or nobody knows whether it was. Not to be acknowledged: the device says it again."""


class _Waiting(NamedTuple):
    entry: NewEntry
    owner: int | None
    answer: asyncio.Future[Entry]


class Flusher:
    """One for each process. Entries are stored in the order in which publish() was called."""

    def __init__(self, wakeup: Wakeup, *, waiting: int = WAITING) -> None:
        self._wakeup = wakeup
        self._queue: deque[_Waiting] = deque()
        self._room = asyncio.Semaphore(waiting)  # lets in whoever came first
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = detached(self._run(), name="flusher")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Takes nothing more, and commits what it has; once the database fails, the rest is given up."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def publish(self, entry: NewEntry, *, owner: int | None = None) -> Entry:
        """Store an event, and return it once it is committed; the one stored before if this device had already said it.

        `owner` is the ID of the customer who owns the device: the usage counts towards them. Waits while too many are inside.
        Raises NotStored.
        """
        async with self._room:
            if self._closing:
                raise NotStored("The server is shutting down.")
            answer: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
            self._queue.append(_Waiting(entry, owner, answer))
            self._arrived.set()
            return await answer

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            while self._queue:
                await self._commit([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            if self._closing:
                return
            self._arrived.clear()

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """One transaction. An event that the database refuses must not take the others with it, so it is searched by halves."""
        try:
            written = await retrying(lambda: _store(batch, self._wakeup))
        except REFUSALS as error:
            if len(batch) > 1 and not isinstance(error.__cause__, sqlite3.OperationalError):  # a full disk is no event's fault
                middle = len(batch) // 2
                await self._commit(batch[:middle])
                await self._commit(batch[middle:])
                return
            logger.warning("An event of %s was refused by the database: %s", batch[0].entry.device_id, error)
            self._refuse(batch, error)
        except FAILURES as error:
            logger.warning("%d events were not stored: %s: %s", len(batch), type(error).__name__, error)
            self._refuse(batch, error)
            if self._closing:
                self._refuse(self._queue, error)
                self._queue.clear()
        except Exception as error:
            # A defect of ours: these publishers hear of it, and the next batch has its chance.
            logger.exception("%d events were not stored.", len(batch))
            self._refuse(batch, error)
        else:
            for waiting, each in zip(batch, written, strict=True):
                if not waiting.answer.done():  # its publisher may have gone
                    waiting.answer.set_result(each.entry)

    def _refuse(self, batch: Sequence[_Waiting] | deque[_Waiting], cause: Exception) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                failure = NotStored("The event could not be stored.")
                failure.__cause__ = cause
                waiting.answer.set_exception(failure)


async def _store(batch: Sequence[_Waiting], through: Wakeup) -> list[Written]:
    if log.pays_to_copy(len(batch)):
        try:
            return await _store_by(log.copy, batch, through)
        except IntegrityError:
            pass  # one of them was said before, or is at fault: the statement below can tell
    elif not is_sqlite() and not any(tallies.counts(waiting.entry, waiting.owner) for waiting in batch):
        written = await log.write([waiting.entry for waiting in batch])  # one statement, which needs no transaction around it
        _tell([each.entry for each in written if each.fresh], through)
        return written
    return await _store_by(log.write, batch, through)


async def _store_by(
    write: Callable[[Sequence[NewEntry]], Awaitable[list[Written]]], batch: Sequence[_Waiting], through: Wakeup
) -> list[Written]:
    async with transaction(quick=len(batch) <= QUICK):
        written = await write([waiting.entry for waiting in batch])
        # Only after the insert it is known what is said for the first time.
        fresh = [(each.entry, waiting.owner) for each, waiting in zip(written, batch, strict=True) if each.fresh]
        await tallies.count(fresh)
        after_commit(lambda: _tell([entry for entry, _ in fresh], through))
    return written


def _tell(committed: Sequence[Entry], through: Wakeup) -> None:
    if committed:
        through.appended(committed)
