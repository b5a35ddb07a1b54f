"""The lease of this server process, renewed while it lives; and the watch over the others, whose devices go offline with them.

A process is dead when its beat stood still for `dead_after_s` of the watcher's own time, in which the watcher could read: neither
a clock that jumps nor a database that is away takes anybody down.
Source: reliability, "Presence".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Self

from models.sql import execute, is_sqlite, rows
from models.transaction import detached, retrying, transaction
from realtime import presence
from realtime.log import FAILURES
from settings import Settings

logger = logging.getLogger(__name__)

DRAIN_S = 2.0  # seconds for the others to be told that this process ends
LOOK_S = 1.0  # seconds between two looks at the others' beats and at what the log is owed


class Watch:
    """For how long each process's beat has stood still, in time that was really watched."""

    def __init__(self, dead_after_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._seen: dict[str, tuple[int, float]] = {}  # beat, and seconds without a change
        self._looked_at: float | None = None

    def look(self, beats: Mapping[str, int], at: float) -> list[str]:
        """The processes that are dead, at the monotonic time `at`. Called only when the beats could be read.

        Between two looks at most two seconds count: what passed while the database was away, or while we slept, proves nothing.
        """
        passed = 0.0 if self._looked_at is None else min(at - self._looked_at, 2 * LOOK_S)
        self._looked_at = at
        still = {process: seconds + passed for process, (beat, seconds) in self._seen.items() if beats.get(process) == beat}
        self._seen = {process: (beat, still.get(process, 0.0)) for process, beat in beats.items()}
        return [process for process, (_, seconds) in self._seen.items() if seconds >= self._dead_after_s]


class Lease:
    """One for each server process, for as long as it runs.

    `tell(now)` pays what the log is owed: it opens a transaction, calls presence.take_due() and appends. `lost()` is called when
    others have declared this process dead, having been stopped for too long: all its sessions are to be closed.
    """

    def __init__(
        self, process: str, settings: Settings, *, tell: Callable[[datetime], Awaitable[object]], lost: Callable[[], object]
    ) -> None:
        self.process = process
        self.heard = presence.Heard()
        self._beat_s = settings.beat_s
        self._watch = Watch(settings.dead_after_s)
        self._tell = tell
        self._lost = lost
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        now = datetime.now(UTC)
        async with transaction():
            if is_sqlite():
                await execute("DELETE FROM server_process")  # the lock file says that there is no other
            await self._sign_in(now)
            await presence.release_orphans(now, grace_s=presence.GRACE_S)
        self._task = detached(self._run(), name="lease")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Gives the devices that are still here time to come back elsewhere."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.heard.flush()
            await retrying(self._sign_out)
        except FAILURES as error:
            logger.warning("The others will find this process dead: %s: %s", type(error).__name__, error)

    async def drain(self) -> None:
        """Say that this process takes no new devices and is about to end; where the database does not hear of it, it ends all the same."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await execute("UPDATE server_process SET draining = TRUE WHERE id = $1", [self.process])
        except FAILURES as error:
            logger.warning("The others do not know that this process ends: %s: %s", type(error).__name__, error)

    async def _sign_in(self, now: datetime) -> None:
        await execute("INSERT INTO server_process (id, started_at, beat, draining) VALUES ($1, $2, 0, FALSE)", [self.process, now])

    async def _sign_out(self) -> None:
        async with transaction():
            await execute("DELETE FROM server_process WHERE id = $1", [self.process])
            await presence.release(self.process, datetime.now(UTC), grace_s=presence.GRACE_S)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        beat_at = 0.0
        while True:
            try:
                if clock() >= beat_at:
                    await self._beat()
                    beat_at = clock() + self._beat_s
                await self._look(clock)
                await self._pay()
            except FAILURES as error:
                logger.warning("The lease waits for the database: %s: %s", type(error).__name__, error)
            except Exception:  # a defect of ours in one round must not end the lease
                logger.exception("A round of the lease failed.")
            await asyncio.sleep(LOOK_S)

    async def _beat(self) -> None:
        if not await execute("UPDATE server_process SET beat = beat + 1 WHERE id = $1", [self.process]):
            logger.error("This process was declared dead while it could not beat: its sessions are closed.")
            await self._sign_in(datetime.now(UTC))
            self._lost()
        await self.heard.flush()

    async def _look(self, clock: Callable[[], float]) -> None:
        beats = {row["id"]: row["beat"] for row in await rows("SELECT id, beat FROM server_process WHERE id <> $1", [self.process])}
        for process in self._watch.look(beats, clock()):
            await retrying(partial(bury, process, beats[process], datetime.now(UTC)))

    async def _pay(self) -> None:
        while await rows("SELECT 1 AS owed FROM presence WHERE announce_at <= $1 LIMIT 1", [now := datetime.now(UTC)]):
            await self._tell(now)


async def bury(process: str, beat: int, now: datetime) -> bool:
    """Take a process that stood still out, and its devices offline; False if it has beaten since, or another was faster."""
    async with transaction():
        if not await execute("DELETE FROM server_process WHERE id = $1 AND beat = $2", [process, beat]):
            return False
        devices = await presence.release(process, now)
    logger.warning("Server process %s is dead: %d devices are offline.", process, devices)
    return True
