"""Due jobs and periodic sweeps, run beside the doors in every server process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from auth.ledger import forget_paid
from billing.outbox import END, RECONCILE, SEATS, TRIAL
from fleet import repeating
from fleet.billing import paying
from fleet.customers import consenting
from fleet.devices import counting
from fleet.firmware import damage, updating, uploading
from fleet.firmware.offering import CONSIDER_AGAIN
from fleet.house import House
from fleet.imports import importing, undoing
from fleet.jobs import IMPORT, MAIL, letter_of
from fleet.rollouts import advancing
from mailer import MailRefused
from realtime import commands, jobs, named, retention
from realtime.wakeup import JOBS

log = logging.getLogger(__name__)

HANDS = 2  # jobs at once in one process: a long import does not hold up a mail
LOOK_EVERY_S = 1.0  # for jobs that fall due by the clock, and for wake-ups that got lost
RENEW_EVERY_S = 20.0
END_WITHIN_S = 3.0  # a job still running then is given up; its lease runs out and another process goes on

JOBS_KEPT = timedelta(days=7)

Handler = Callable[[Mapping[str, Any], House], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Something every process does now and then; harmless when several do it at once."""

    name: str
    every_s: float
    act: Callable[[House, datetime], Awaitable[object]]


class Worker:
    """Use it as a context manager around the time the doors are open."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stop_listening: Callable[[], None] = lambda: None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._stop_listening = self._house.wakeup.listen(JOBS, lambda _: self._woken.set())
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{hand}") for hand in range(HANDS)]
        self._tasks += [asyncio.create_task(self._repeat(sweep), name=f"sweep {sweep.name}") for sweep in SWEEPS]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Takes no more jobs; those under way have three seconds."""
        self._closing = True
        self._stop_listening()
        self._woken.set()
        for task in self._tasks[HANDS:]:
            task.cancel()
        _, late = await asyncio.wait(self._tasks, timeout=END_WITHIN_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while not self._closing:
            self._woken.clear()
            if not await self._did_one():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), LOOK_EVERY_S)

    async def _did_one(self) -> bool:
        try:
            job = await jobs.take(self._house.process.process, datetime.now(UTC))
        except OSError as error:  # look again later
            log.warning("Jobs wait for the database: %s: %s", type(error).__name__, error)
            return False
        except Exception:
            log.exception("Jobs could not be looked up.")
            return False
        if job is None:
            return False
        try:
            await self._do(job)
        except Exception:
            log.exception("The outcome of job %s could not be stored; its lease will run out.", job.id)
        return True

    async def _do(self, job: jobs.TakenJob) -> None:
        process = self._house.process.process
        handled = asyncio.ensure_future(HANDLERS[job.kind](job.payload, self._house))
        keeping = asyncio.create_task(self._keep_lease(job, handled), name=f"lease of job {job.id}")
        try:
            await handled
        except Exception as error:
            log.warning("Job %s (%s), try %s, failed.", job.id, job.kind, job.attempt, exc_info=True)
            await jobs.failed(job, process, datetime.now(UTC), str(error), is_final=isinstance(error, MailRefused))
        else:
            await jobs.done(job, process, datetime.now(UTC))
        finally:
            keeping.cancel()

    async def _keep_lease(self, job: jobs.TakenJob, handled: asyncio.Future[None]) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            if not await jobs.renew(job, self._house.process.process, datetime.now(UTC)):
                handled.cancel()  # another process has it now

    async def _repeat(self, sweep: Sweep) -> None:
        while True:
            await asyncio.sleep(sweep.every_s)
            try:
                await sweep.act(self._house, datetime.now(UTC))
            except OSError as error:
                log.warning("Sweep %s waits for the database: %s: %s", sweep.name, type(error).__name__, error)
            except Exception:  # one bad round does not end the sweeping
                log.exception("Sweep %s failed.", sweep.name)


# ── what is done ──
async def _send(payload: Mapping[str, Any], house: House) -> None:
    await house.mailer.send(letter_of(payload, house.sealer))


async def _consider_again(payload: Mapping[str, Any], house: House) -> None:
    await updating.consider_again(payload["deviceId"])


def _billing(kind: str) -> Handler:
    async def keep(payload: Mapping[str, Any], house: House) -> None:
        await paying.keep_promise(kind, payload, house=house)

    return keep


HANDLERS: Mapping[str, Handler] = {
    MAIL: _send,
    IMPORT: undoing.take_up,
    CONSIDER_AGAIN: _consider_again,
    **{kind: _billing(kind) for kind in (SEATS, END, TRIAL, RECONCILE)},
}


async def _fold_counts(house: House, now: datetime) -> None:
    await counting.fold()


async def _advance_rollouts(house: House, now: datetime) -> None:
    await advancing.advance_all()


async def _look_at_damaged(house: House, now: datetime) -> None:
    await damage.look_again(house)


async def _sweep_blobs(house: House, now: datetime) -> None:
    await uploading.sweep_blobs(house)


async def _forget_done_jobs(house: House, now: datetime) -> None:
    await jobs.forget_done(now - JOBS_KEPT)


async def _purge_log(house: House, now: datetime) -> None:
    await retention.purge(house.settings, now)


async def _forget_named_streams(house: House, now: datetime) -> None:
    await named.forget_unused(now, timedelta(seconds=house.settings.log_retention_s))


async def _forget_commands(house: House, now: datetime) -> None:
    await commands.purge(now)


async def _forget_paid_debts(house: House, now: datetime) -> None:
    await forget_paid(now)


async def _pass_sandbox_time(house: House, now: datetime) -> None:
    await paying.pass_time(house)


async def _reconcile_billing(house: House, now: datetime) -> None:
    if house.till is not None:
        await paying.keep_promise(RECONCILE, {}, house=house)


async def _forget_oauth(house: House, now: datetime) -> None:
    await consenting.forget_old(now)


async def _forget_keyed_calls(house: House, now: datetime) -> None:
    await repeating.forget_old(now)


SWEEPS = (
    Sweep("parts of the counts", 1, _fold_counts),
    Sweep("billing sandbox", 1, _pass_sandbox_time),
    Sweep("billing reconciliation", 86400, _reconcile_billing),
    Sweep("rollouts", 1, _advance_rollouts),
    Sweep("stale updates", 30, updating.expire_stale),
    Sweep("log retention", 60, _purge_log),
    Sweep("named streams", 3600, _forget_named_streams),
    Sweep("commands nobody collected", 600, _forget_commands),
    Sweep("done jobs", 3600, _forget_done_jobs),
    Sweep("idempotency keys", 3600, _forget_keyed_calls),
    Sweep("codes and tokens of apps and customers", 3600, _forget_oauth),
    Sweep("throttle", 3600, _forget_paid_debts),
    Sweep("import files", 3600, importing.forget_sources),
    Sweep("damaged firmware", 600, _look_at_damaged),
    Sweep("bytes no firmware names", 3600, _sweep_blobs),
)
