"""What a rollout does by itself: judging, offering to the next, the next stage, and its end; a sweep of every server process."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

from fleet.firmware import releasing
from fleet.firmware.eligibility import may_be_moved
from fleet.firmware.offering import consider_orders
from fleet.rollouts import shares, staging, walking
from fleet.rollouts.judging import AWAY, Given, may_still_boot
from fleet.rollouts.staging import ROLLOUTS, Course, size_of
from models.firmware import UpdateState
from models.rollout import OPEN_ROLLOUT_STATES, RolloutDevice, RolloutState, TriedState
from models.sql import Params, database_time, read_time, rows
from models.transaction import retrying, transaction
from realtime import log

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.8  # seconds, at one rollout, whichever process it is
APPROVAL_WITHIN = timedelta(days=7)
REST = 4  # times as long as a look took, before the next: a rollout keeps a connection busy for a fifth of the time at most


async def advance_all() -> int:
    """Bring every open rollout forward by what has happened since the last look; how many there were. Times are the database's."""
    now = await database_time()
    due = await rows(
        "SELECT id, product_id FROM rollout WHERE state = ANY($1) AND (look_after IS NULL OR look_after < $2) ORDER BY id",
        [[str(state) for state in OPEN_ROLLOUT_STATES], now],
    )
    for row in due:
        try:
            await retrying(lambda row=row: advance(row["id"], row["product_id"], now))  # type: ignore[misc]  # mypy cannot infer a bound lambda
        except Exception:  # one rollout that cannot go on does not hold up the others
            logger.exception("Rollout %s could not be brought forward.", row["id"])
    return len(due)


async def advance(rollout_id: int, product_id: int, now: datetime) -> None:
    """One look at one rollout. Nothing is remembered between two looks but what is stored: any process may take the next."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    async with transaction():
        if not await rows("SELECT id FROM product WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", [product_id]):
            return
        course = await staging.hold(rollout_id)
        if course is None:
            return
        match course.rollout.state:
            case RolloutState.RUNNING:
                await _run(course, now)
            case RolloutState.PAUSED:
                await staging.settle(course, now)
            case RolloutState.HALTED:
                await _wind_down(course, now)
            case RolloutState.AWAITING_APPROVAL if now - course.rollout.created_at >= APPROVAL_WITHIN:
                course.rollout.halted_because = "Nobody approved it within seven days."
                await _end(course, RolloutState.ABORTED, "rollout.expired", now)
        course.rollout.look_after = now + timedelta(seconds=max(LOOK_EVERY_S, REST * (clock() - begun)))
        await course.rollout.save(update_fields=["look_after"])
        await log.append(*course.entries)


async def begin_stage(course: Course, number: int, now: datetime) -> None:
    """Let the rollout reach this stage."""
    rollout, stage = course.rollout, course.stages[number]
    rollout.stage, rollout.reach = number, stage.reach
    await rollout.save(update_fields=["stage", "reach"])
    await count_targets(course, since=number)
    stage.state, stage.reached_at = RolloutState.RUNNING, now
    await stage.save(update_fields=["state", "reached_at"])


async def lay_out(course: Course) -> None:
    """Say where each stage ends, before the first begins: at a share of all places, or behind so many of the devices there are now.

    One that would end before the stage before it holds nobody, and is passed at once.
    """
    end = ""
    for stage in course.stages:
        own = await _place_behind(course, stage.devices or 0) if stage.percent is None else shares.reach(stage.percent)
        stage.reach = end = max(end, own)
        await stage.save(update_fields=["reach"])


async def _place_behind(course: Course, devices: int) -> str:
    values = Params()
    found = await rows(f"{_places(course, values)} SELECT place FROM places ORDER BY place LIMIT 1 OFFSET {int(devices)}", values)
    return str(found[0]["place"]) if found else shares.ALL


async def count_targets(course: Course, *, since: int = 0) -> None:
    """How many devices each stage from this one on holds now: those that may be moved and have to be, and those that were."""
    values = Params()
    places = _places(course, values)
    below = [f"sum(CASE WHEN place < {values.put(stage.reach)} THEN 1 ELSE 0 END)" for stage in course.stages]
    columns = ", ".join(f"COALESCE({each}, 0) AS upto_{number}" for number, each in enumerate(below))
    [found] = await rows(f"{places} SELECT {columns} FROM places", values)
    before = 0
    for stage in course.stages:
        targeted, before = int(found[f"upto_{stage.number}"]) - before, int(found[f"upto_{stage.number}"])
        if stage.number >= since:
            stage.targeted = targeted
            await stage.save(update_fields=["targeted"])


def _places(course: Course, values: Params) -> str:
    """SQL: the place of every device concerned, worked out once."""
    return f"""WITH places AS MATERIALIZED (
        SELECT {shares.PLACE} AS place {walking.devices_of(course, values)} AND {may_be_moved(course.product, values.put)}
           AND (NOT (device.proven AND device.firmware_version = {values.put(course.firmware.version)}) OR EXISTS (
               SELECT 1 FROM rollout_device AS tried WHERE tried.rollout_id = rollout.id AND tried.device_id = device.device_id)))"""


# ── running ──
async def _run(course: Course, now: datetime) -> None:
    rollout = course.rollout
    if rollout.to_group and rollout.group_id is None:  # type: ignore[attr-defined]  # a Tortoise column
        rollout.halted_because = "Its group was deleted."
        await _end(course, RolloutState.ABORTED, "rollout.aborted", now)
        return
    await staging.settle(course, now)
    if not course.is_running:
        return
    busy = await staging.in_flight(rollout.id)
    places = max(0, rollout.max_in_flight - busy) if course.window_is_open(now) else 0
    found = await walking.go_on(course, now, busy=busy, places=places)
    course.entries += consider_orders(course.product.number, found.waiting, now)
    if busy == 0 and found.is_through and await _has_shown(course):
        await _pass_stage(course, now)


async def _has_shown(course: Course) -> bool:
    """Whether the stage, whose devices have all been offered it, has shown what it was for: one succeeded, if there was one to try.

    Devices that are offline, or put updates off, get the version when they return; a stage does not wait for them.
    """
    succeeded = RolloutDevice.filter(rollout_id=course.rollout.id, stage=course.stage.number, state="SUCCEEDED")
    return course.stage.targeted == 0 or await succeeded.exists()


async def _pass_stage(course: Course, now: datetime) -> None:
    stage = course.stage
    stage.state = RolloutState.FINISHED
    await stage.save(update_fields=["state"])
    if stage.number + 1 < len(course.stages):
        await begin_stage(course, stage.number + 1, now)
        await staging.audit(course, "rollout.advanced", by=ROLLOUTS, stage=stage.number + 2, upTo=size_of(course.stage))
    else:
        await _finish(course, now)


async def _finish(course: Course, now: datetime) -> None:
    """The version becomes the release of the product or group, so that whoever was away gets it too; one made meanwhile stays."""
    rollout, product = course.rollout, course.product
    group_id: int | None = rollout.group_id  # type: ignore[attr-defined]  # a Tortoise column
    table, key, value = ("product_release", "product_id", product.id) if group_id is None else ("group_release", "group_id", group_id)
    newer = await rows(f"SELECT 1 AS newer FROM {table} WHERE {key} = $1 AND released_at > $2", [value, rollout.started_at])
    before = await releasing.released_version(product, group_id)
    in_force = not newer and await releasing.put_in_force(course.firmware, product, group_id, now, forces=rollout.forces)
    sequence = await releasing.next_sequence(product) if in_force else product.release_sequence
    await _end(course, RolloutState.FINISHED, "rollout.finished", now, released=in_force, before=before, sequence=sequence)


async def _end(course: Course, state: RolloutState, action: str, now: datetime, **detail: object) -> None:
    rollout, stage = course.rollout, course.stage
    rollout.state, rollout.ended_at = state, now
    await rollout.save(update_fields=["state", "ended_at", "halted_because"])
    if stage.state != RolloutState.FINISHED:
        stage.state = state
        await stage.save(update_fields=["state"])
    await staging.audit(course, action, by=ROLLOUTS, because=rollout.halted_because, **detail)


async def _wind_down(course: Course, now: datetime) -> None:
    """What was under way comes to its end; once everybody touched is back on what they ran, if that is the policy, so does the rollout."""
    await staging.settle(course, now, only=(TriedState.OFFERED,))
    if course.rollout.rolls_back and not await _still_to_go_back(course, now):
        await _end(course, RolloutState.ROLLED_BACK, "rollout.rolled_back", now)


async def _still_to_go_back(course: Course, now: datetime) -> bool:
    """Whether a touched device has still to come back to what it ran, or may yet restart into the version."""
    values = [course.rollout.id, course.product.id]
    if await rows(
        f"SELECT 1 AS one {_TOUCHED} AND (NOT {_IS_BACK} OR (update_.id IS NOT NULL AND update_.finished_at IS NULL)) LIMIT 1", values
    ):
        return True
    columns = "update_.state, update_.progress, update_.finished_at, presence.last_handshake_at, presence.last_heard"
    ended = await rows(
        f"SELECT {columns} {_TOUCHED} AND update_.state IN ('CANCELED', 'FAILED') AND update_.finished_at > $3", [*values, now - AWAY]
    )
    return any(may_still_boot(_given(row), now) for row in ended if row["last_heard"] is not None)


_TOUCHED = """
      FROM rollout_device AS tried
      JOIN device ON device.device_id = tried.device_id AND device.product_id = $2 AND device.state = 'ACTIVE'
           AND NOT device.development AND device.desired_firmware_version IS NULL
      LEFT JOIN presence ON presence.device_id = tried.device_id
      LEFT JOIN device_update AS update_ ON update_.id = tried.update_id
     WHERE tried.rollout_id = $1 AND tried.former_version IS NOT NULL"""
_IS_BACK = "(device.proven AND device.firmware_version = tried.former_version)"


def _given(row: dict[str, Any]) -> Given:
    times = (read_time(row[name]) for name in ("finished_at", "last_handshake_at", "last_heard"))
    return Given(UpdateState(row["state"]), row["progress"], *times)
