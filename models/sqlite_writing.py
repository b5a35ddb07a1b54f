"""Quick transactions of SQLite in the event loop's own thread, and the write-ahead log kept short, so that no commit has to do it."""

import asyncio
import contextvars
import logging
import sqlite3
import time
from collections.abc import Mapping
from typing import Any, Final

import aiosqlite

from models.sqlite_reading import Reader

logger = logging.getLogger(__name__)

CARRY_EVERY_S: Final = 1.0
LOG_PAGES: Final = 8192  # 32 MiB: as long as the log gets before it begins anew
STALL_S: Final = 0.1  # a commit here that took longer keeps the next ones out of the event loop's thread; a busy machine takes tens of ms
STALLED_FOR_S: Final = 10.0
ANY_NUMBER: Final = -(1 << 60)  # of ticks: what writes is never stopped

LOG_PRAGMAS: Final = {
    "journal_size_limit": LOG_PAGES * 4096,  # bytes of the log's file that are kept to be written over: it need not grow again
    # By default the commit that fills a thousand pages carries them over itself, and waits for the disk twice; here only one that finds
    # the Carrier far behind.
    "wal_autocheckpoint": 4 * LOG_PAGES,
}


class Here(Reader):
    """The event loop's own connection, which also writes what is over in a moment.

    A commit writes to the log and does not wait for the disk, so one of a few rows costs less than the ways to another thread and back.
    Two things do wait for the disk and are left to that thread: the first commit of a log that begins anew, and everything while the disk
    stalls. So is whatever finds somebody else writing.
    """

    def __init__(self, path: str, pragmas: Mapping[str, Any]) -> None:
        super().__init__(path)
        for name, value in (*pragmas.items(), ("query_only", "OFF"), ("busy_timeout", 0)):
            self.connection.execute(f"PRAGMA {name} = {value}").fetchall()
        self.log_begins_anew = False
        self._stalled_until = 0.0

    def begin(self) -> bool:
        """Begin a transaction, unless there is anything to wait for; to be ended by commit() or rollback()."""
        if self.log_begins_anew or time.monotonic() < self._stalled_until:
            self.log_begins_anew = False
            return False
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # what a cancelled task has asked for may still be under way, or an operator writes
            return False
        self._ticks = ANY_NUMBER
        return True

    def commit(self) -> None:
        begun = time.monotonic()
        self.connection.commit()
        ended = time.monotonic()
        if ended - begun > STALL_S:
            self._stalled_until = ended + STALLED_FOR_S

    def rollback(self) -> None:
        self.connection.rollback()


class Carrier:
    """Carries what is committed from the log into the database's file every second, in a thread of its own.

    That goes on beside the commits. Only when the log has got long do they wait, for its last pages: a log that was carried over whole
    begins anew with the next commit.
    """

    def __init__(self, path: str, here: Here, turn: asyncio.Lock) -> None:
        self._path = path
        self._here = here
        self._turn = turn  # of whoever writes
        self._task = asyncio.create_task(self._run(), name="carry the log over", context=contextvars.Context())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CARRY_EVERY_S)  # a command that is over sooner needs none: who closes the database carries all over
            try:
                async with aiosqlite.connect(self._path, isolation_level=None) as connection:
                    await self._keep_short(connection)
            except sqlite3.Error as error:
                logger.warning("What is committed stays in the write-ahead log for now: %s", error)

    async def _keep_short(self, connection: aiosqlite.Connection) -> None:
        while True:
            if await self._carry(connection) > LOG_PAGES:
                async with self._turn:
                    await self._carry(connection)
            await asyncio.sleep(CARRY_EVERY_S)

    async def _carry(self, connection: aiosqlite.Connection) -> int:
        """How many pages the log has."""
        [(_, pages, carried)] = await connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        self._here.log_begins_anew = pages == carried
        return int(pages)
