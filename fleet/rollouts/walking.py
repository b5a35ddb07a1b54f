"""Walking along a rollout's devices for those that are to be offered it: piece by piece, so that a look costs alike in every fleet.

A look goes on where the last one came to, and begins anew behind the last device. A fleet of one piece is walked through in every look.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.firmware.eligibility import Put, may_be_moved
from fleet.products import grouping
from fleet.rollouts import shares
from fleet.rollouts.staging import Course
from models.sql import Params, rows

PIECE = 10_000  # devices in one statement
WALK_S = 0.1  # seconds of a look; then the next one goes on
RETRY_AFTER = timedelta(minutes=10)  # a device that failed is asked again, if its own patience has not ended


@dataclass(frozen=True, slots=True)
class Found:
    """`waiting`: devices that are to look again. `is_through`: since the walk began nobody was met whom the rollout has still to reach."""

    waiting: Sequence[str]
    is_through: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """The devices behind `after`, up to `through`; None: up to the last."""

    after: str
    through: str | None


async def go_on(course: Course, now: datetime, *, busy: int, places: int) -> Found:
    """Look for devices to take these places, with the rollout's row held; `busy` of it are under way.

    More are found than there are places: some will not take theirs, and no deaf device stands before others.
    """
    rollout, waiting = course.rollout, list[str]()
    if busy:
        rollout.somebody_left = True  # whoever is under way may be left in the end, and behind us
        if not places:
            return Found(waiting, is_through=False)
    clock = asyncio.get_running_loop().time
    ends_at, is_through = clock() + WALK_S, False
    while True:
        piece = await _piece(course, rollout.walked_to)
        if places:
            waiting += await _waiting(course, piece, now, most=2 * places - len(waiting))
        rollout.somebody_left = rollout.somebody_left or await _anybody_left(course, piece, now)
        rollout.walked_to = piece.through or ""
        if piece.through is None:
            is_through, rollout.somebody_left = not rollout.somebody_left, False
            break
        if (places and len(waiting) >= 2 * places) or clock() >= ends_at:
            break
    await rollout.save(update_fields=["walked_to", "somebody_left"])
    return Found(waiting, is_through)


def devices_of(course: Course, values: Params, piece: Piece | None = None) -> str:
    """SQL from FROM on: the rollout with each device it is for, in whatever state and place, and its presence if it has one."""
    put, rollout = values.put, course.rollout
    condition = _between(piece, values, "device") if piece is not None else "TRUE"
    members = ""
    if rollout.to_group:
        group_id: int = rollout.group_id  # type: ignore[attr-defined]  # a Tortoise column
        inside = _between(piece, values, "inside") if piece is not None else "TRUE"
        members = f"""JOIN (SELECT DISTINCT inside.device_id FROM group_above AS way JOIN group_membership AS inside
                              ON inside.group_id = way.group_id
                             WHERE way.above_id = {put(group_id)} AND {inside}) AS member
                        ON member.device_id = device.device_id"""
    return f"""
        FROM rollout JOIN device ON device.product_id = rollout.product_id {members}
        LEFT JOIN presence ON presence.device_id = device.device_id
       WHERE rollout.id = {put(rollout.id)} AND {condition}"""


def _between(piece: Piece, values: Params, table: str) -> str:
    behind = f"{table}.device_id > {values.put(piece.after)}"
    return behind if piece.through is None else f"{behind} AND {table}.device_id <= {values.put(piece.through)}"


async def _piece(course: Course, after: str) -> Piece:
    if course.rollout.to_group:
        found = await grouping.ids_inside(course.rollout.group_id, beyond=after, count=PIECE)  # type: ignore[attr-defined]  # a Tortoise column
        return Piece(after, found[-1] if len(found) == PIECE else None)
    last = await rows(
        "SELECT device_id FROM device WHERE product_id = $1 AND device_id > $2 ORDER BY device_id LIMIT 1 OFFSET $3",
        [course.product.id, after, PIECE - 1],
    )
    return Piece(after, last[0]["device_id"] if last else None)


async def _waiting(course: Course, piece: Piece, now: datetime, *, most: int) -> list[str]:
    """Devices that are to look again: online, reached, their turn come; those that failed a while ago too."""
    values = Params()
    put = values.put
    tried = f"tried.state <> 'LEFT' AND NOT (tried.state = 'FAILED' AND tried.settled_at < {put(now - RETRY_AFTER)})"
    conditions = [_untried(course, now, tried, put), f"{shares.TURN} < {put(course.turns(now))}"]
    return await _online(course, piece, conditions, values, most)


async def _anybody_left(course: Course, piece: Piece, now: datetime) -> bool:
    """Whether somebody online was not offered it yet; those that put updates off are not waited for, unless the rollout forces them."""
    values = Params()
    put = values.put
    conditions = [_untried(course, now, "tried.state <> 'LEFT'", put)]
    if not course.rollout.forces:
        conditions.append(
            # With the plus it is looked up by the device: of this firmware there may be a million.
            f"""NOT EXISTS (SELECT 1 FROM device_update AS put_off WHERE put_off.device_id = device.device_id
                 AND put_off.state = 'PENDING' AND put_off.attempt = 0 AND +put_off.firmware_id = {put(course.firmware.id)})"""
        )
    return bool(await _online(course, piece, conditions, values, 1))


def _untried(course: Course, now: datetime, tried: str, put: Put) -> str:
    return f"""{shares.WITHIN_REACH} AND {may_be_moved(course.product, put)}
        AND NOT (device.proven AND device.firmware_version = {put(course.firmware.version)})
        AND (device.update_blocked_until IS NULL OR device.update_blocked_until <= {put(now)})
        AND NOT EXISTS (SELECT 1 FROM rollout_device AS tried
                         WHERE tried.rollout_id = rollout.id AND tried.device_id = device.device_id AND {tried})"""


async def _online(course: Course, piece: Piece, conditions: Sequence[str], values: Params, most: int) -> list[str]:
    found = await rows(
        f"""SELECT device.device_id {devices_of(course, values, piece)} AND presence.online AND {" AND ".join(conditions)}
             ORDER BY random() LIMIT {int(most)}""",
        values,
    )
    return [row["device_id"] for row in found]
