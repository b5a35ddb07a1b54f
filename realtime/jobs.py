"""Due jobs: taken by one process at a time under a lease, tried again with patience, parked when patience ends.

Source: reliability, "Jobs and timers".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from models.operations import Job
from models.sql import execute, rows
from models.transaction import after_commit
from realtime.wakeup import JOBS, notify

LEASE = timedelta(seconds=60)
TRY_AGAIN_AFTER_S = (1, 10, 60, 600, 3600)  # after the first failure, the second …; then the job is parked


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job whose lease we hold; `attempt` counts from 1."""

    id: int
    kind: str
    payload: dict[str, Any]
    attempt: int


async def put_down(kind: str, payload: Mapping[str, object], *, due_at: datetime | None = None) -> Job:
    """Promise to do this; inside transaction(), so that the promise stands or falls with the act."""
    job = await Job.create(kind=kind, payload=dict(payload), due_at=due_at or datetime.now(UTC))
    after_commit(lambda: notify(JOBS))
    return job


async def take(process: str, now: datetime) -> TakenJob | None:
    """The job due the longest, leased to this process; None when nothing is due. No job is ever taken by two."""
    found = await rows(
        """UPDATE job SET leased_by = $1, leased_until = $2, attempts = attempts + 1
           WHERE id = (SELECT id FROM job WHERE done_at IS NULL AND parked_at IS NULL AND due_at <= $3
                       AND (leased_until IS NULL OR leased_until < $3) ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
           RETURNING id, kind, payload, attempts""",
        [process, now + LEASE, now],
    )
    if not found:
        return None
    row = found[0]
    payload = json.loads(row["payload"]) if isinstance(row["payload"], str) else row["payload"]
    return TakenJob(row["id"], row["kind"], payload, row["attempts"])


async def renew(job: TakenJob, process: str, now: datetime) -> bool:
    """Hold the lease for longer; False when it was lost, and the work must stop."""
    sql = "UPDATE job SET leased_until = $1 WHERE id = $2 AND leased_by = $3 AND attempts = $4"
    return await execute(sql, [now + LEASE, job.id, process, job.attempt]) == 1


async def done(job: TakenJob, process: str, now: datetime) -> None:
    sql = "UPDATE job SET done_at = $1, leased_until = NULL, error = NULL WHERE id = $2 AND leased_by = $3 AND attempts = $4"
    await execute(sql, [now, job.id, process, job.attempt])


async def failed(job: TakenJob, process: str, now: datetime, error: str, *, is_final: bool = False) -> None:
    """Try again later; after the last try, or when it is final, park it where people see it."""
    mine = "WHERE id = $3 AND leased_by = $4 AND attempts = $5"
    if is_final or job.attempt > len(TRY_AGAIN_AFTER_S):
        sql = f"UPDATE job SET parked_at = $1, error = $2, leased_until = NULL {mine}"
        await execute(sql, [now, error[:500], job.id, process, job.attempt])
        return
    due_at = now + timedelta(seconds=TRY_AGAIN_AFTER_S[job.attempt - 1])
    sql = f"UPDATE job SET due_at = $1, error = $2, leased_until = NULL {mine}"
    await execute(sql, [due_at, error[:500], job.id, process, job.attempt])


async def forget_done(before: datetime) -> int:
    """Delete what was done before then; parked jobs stay until somebody has looked at them."""
    return await execute("DELETE FROM job WHERE done_at < $1", [before])
