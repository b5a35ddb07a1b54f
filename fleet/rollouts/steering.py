"""Rollouts as people steer them: starting one, approving it, pausing, resuming and aborting it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from auth.credentials import viewer_again
from auth.spelling import require_text
from auth.viewer import Viewer
from billing.access import require_active
from errors import AlreadyExists, FirmwareNotProven, Forbidden, InvalidInput, NotFound
from fleet import alarming, scope
from fleet.firmware import approving, planning, releasing
from fleet.firmware.damage import require_sound
from fleet.house import House
from fleet.products.defining import lock
from fleet.rollouts import advancing, staging
from fleet.rollouts.staging import Course
from fleet.rollouts.windows import Window
from models.device import DeviceGroup
from models.firmware import Firmware
from models.organization import Organization
from models.product import Product
from models.rollout import ENDED, FAILING, OPEN_ROLLOUT_STATES, UNDER_WAY, Rollout, RolloutStage, RolloutState
from models.sql import rows
from models.transaction import transaction
from realtime import log

STAGES_MAX = 20
DEVICES_MAX = 10_000_000
IN_FLIGHT_MAX = 10_000
JITTER_MAX_S = 86_400
HEALTHY_MAX_S = 7 * 86_400
LOOK_EVERY_S = 0.5  # whoever follows one


@dataclass(frozen=True, slots=True)
class Stage:
    """Up to so many percent, or so many devices, from the start of the rollout; the last stage is the whole: 10 devices, 25 %, 100 %."""

    percent: int | None
    devices: int | None
    max_failure_percent: int
    healthy_for_s: int


@dataclass(frozen=True, slots=True)
class Terms:
    """How a rollout is to go: seconds; `forces` past devices that put updates off; with a plan only if that still holds."""

    stages: Sequence[Stage]
    max_in_flight: int
    needs_approval: bool = False
    jitter_s: int = 0
    window: Window | None = None
    rolls_back: bool = False
    forces: bool = False
    plan_token: str | None = None


async def start_rollout(firmware: Firmware, *, group: DeviceGroup | None, terms: Terms, house: House, by: Viewer) -> Rollout:
    """Bring the version to the product's, or one group's, devices in stages; first to nobody if somebody else has to approve it.

    That somebody has to is said by the terms, or demanded by the product or a group; every owner and admin is told that it waits.
    Raises FirmwareNotProven until an active device of the product runs it, AlreadyExists while another rollout of the product is open,
    PlanStale if a plan is given and no longer holds, InvalidInput for terms that cannot be.
    Source: reliability, rule 10 of "OTA safety rules"; features, B8, C5 and C12.
    """
    product: Product = firmware.product
    organization: Organization = product.organization
    by.must("rollout.steer", organization.id, product.id)
    require_active(organization)
    _check(terms)
    now = datetime.now(UTC)
    async with transaction():
        await lock(product)
        if await Rollout.filter(product_id=product.id, state__in=OPEN_ROLLOUT_STATES).exists():
            raise AlreadyExists("Another rollout of this product is open: abort it first.", path=("productId",))
        if not await releasing.is_proven(firmware, product):
            raise FirmwareNotProven(releasing.NOT_PROVEN.format(firmware.version), path=("version",))
        await require_sound(firmware, field="version")
        if terms.plan_token is not None:
            await planning.must_be_fresh(terms.plan_token, firmware, group=group, house=house, by=by)
        await releasing.never_delete(firmware, now)
        group_id, group_path = (group.id, group.path) if group is not None else (None, None)
        waits = terms.needs_approval or await approving.is_demanded(product, group_id)
        course = await _begin(firmware, product, group, terms, now, by, waits=waits)
        if waits:
            letter = alarming.rollout_waits(by.actor, product, firmware.version, group_path)
            await alarming.tell(organization, letter, sealer=house.sealer)
        else:
            await _set_off(course, now)
        before = await releasing.released_version(product, group_id)
        await staging.audit(
            course, "rollout.started", by=by, group=group_path, needsApproval=waits,
            stages=[[staging.size_of(stage), stage.max_failure_percent, stage.healthy_for_s] for stage in course.stages],
            maxInFlight=terms.max_in_flight, jitter=terms.jitter_s, rollsBack=terms.rolls_back, forces=terms.forces,
            window=terms.window.to_store() if terms.window is not None else None,
            before=before, downgrade=before is not None and before > firmware.version,
        )  # fmt: skip
        await log.append(*course.entries)
    return course.rollout


async def approve_rollout(rollout: Rollout, *, break_glass: str | None = None, house: House, by: Viewer) -> Rollout:
    """Let a rollout begin that waits for a second person.

    Where there is none to ask, an owner may break the glass for their own, by saying why: the rollout shows it, the audit has an
    entry of its own, and every owner and admin gets a mail.
    Raises Forbidden for its author, InvalidInput unless it waits, and for a glass that somebody else need not break.
    Source: features, C12.
    """
    _require(rollout, by, "rollout.approve")
    approver = by.must_be_user("firmware:release")
    is_author = approver.id == rollout.author_id or by.actor == rollout.created_by  # type: ignore[attr-defined]  # a Tortoise column
    because = _broken_glass(rollout, break_glass, by, is_author=is_author)
    now = datetime.now(UTC)
    async with transaction():
        course = await _held(rollout, (RolloutState.AWAITING_APPROVAL,), "It does not wait for an approval")
        course.rollout.update_from_dict({"approved_by": approver, "approved_at": now, "glass_broken_because": because})
        await course.rollout.save(update_fields=["approved_by_id", "approved_at", "glass_broken_because"])
        await advancing.lay_out(course)
        await _set_off(course, now)
        if because is None:
            await staging.audit(course, "rollout.approved", by=by, author=course.rollout.created_by)
        else:
            await staging.audit(course, "rollout.glass_broken", by=by, because=because)
            letter = alarming.glass_broken(by.actor, course.product, course.firmware.version, because)
            await alarming.tell(rollout.product.organization, letter, sealer=house.sealer)
        await log.append(*course.entries)
    return course.rollout


def _broken_glass(rollout: Rollout, reason: str | None, by: Viewer, *, is_author: bool) -> str | None:
    """Why the author lets their own rollout begin; None for somebody else's approval."""
    if reason is None:
        if is_author:
            raise Forbidden("Somebody else than its author has to approve it.", reason="AUTHOR", path=("id",))
        return None
    if not is_author:
        raise InvalidInput("Only its author breaks the glass; approve it without.", path=("breakGlass",))
    by.must("release.waive", rollout.product.organization.id, rollout.product.id)
    return require_text(reason, path=("breakGlass",), max_length=approving.REASON_MAX)


async def pause_rollout(rollout: Rollout, *, by: Viewer) -> Rollout:
    """Offer it to nobody further; what is under way may end, and who runs it keeps it. Raises InvalidInput unless it runs."""
    return await _turn(rollout, RolloutState.RUNNING, RolloutState.PAUSED, "rollout.paused", by)


async def resume_rollout(rollout: Rollout, *, by: Viewer) -> Rollout:
    """Go on where it was paused. Raises InvalidInput unless it is paused."""
    return await _turn(rollout, RolloutState.PAUSED, RolloutState.RUNNING, "rollout.resumed", by)


async def abort_rollout(rollout: Rollout, *, by: Viewer) -> Rollout:
    """End it before its end. As with a withdrawn release nobody is moved by that: at a device's next hello the releases decide.

    Raises InvalidInput if it has ended.
    """
    _require(rollout, by)
    now = datetime.now(UTC)
    async with transaction():
        course = await _held(rollout, OPEN_ROLLOUT_STATES, "It has ended")
        before = course.rollout.state
        course.rollout.state, course.rollout.ended_at = RolloutState.ABORTED, now
        await course.rollout.save(update_fields=["state", "ended_at"])
        course.stage.state = RolloutState.ABORTED
        await course.stage.save(update_fields=["state"])
        under_way = [row["device_id"] for row in await rows(_UNDER_WAY, [course.rollout.id])]
        await staging.audit(course, "rollout.aborted", by=by, before=before, underWay=len(under_way))
        await log.append(*staging.look_again(course.product, under_way, now))
    return course.rollout


# ── following ──
async def follow(rollout_id: int, *, house: House, by: Viewer) -> AsyncGenerator[Rollout, None]:
    """The rollout now, and whenever its state or a count of its stages changes; it ends with the rollout.

    Raises Unauthenticated, NotFound, Forbidden once the viewer may not read it.
    """
    clock = asyncio.get_running_loop().time
    before, counted, count_at = None, None, 0.0
    key = ("rollout", by.token.id if by.token else None, rollout_id)
    while (rollout := await Rollout.filter(id=rollout_id).first()) is not None:
        if clock() >= count_at or rollout.state in ENDED:
            begun = clock()
            counted = await counts([rollout_id])
            count_at = clock() + advancing.REST * (clock() - begun)
        now = (rollout.state, rollout.stage, counted)
        if now != before:
            before = now
            yield rollout
        if rollout.state in ENDED:
            return
        await asyncio.sleep(LOOK_EVERY_S)
        await house.authorities.find(key, lambda: _readable(rollout_id, by))


async def _readable(rollout_id: int, by: Viewer) -> None:
    fresh = await viewer_again(by, now=datetime.now(UTC))
    await scope.readable_rollout(fresh, rollout_id)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the devices of a stage that were offered the version. One that failed and is being tried again is both."""

    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0


async def counts(rollout_ids: Sequence[int]) -> dict[int, dict[int, Counts]]:
    """By rollout, and by the number of the stage; one in which nobody was offered anything is left out."""
    found: dict[int, dict[int, Counts]] = {}
    for row in await rows(_COUNTS, [list(rollout_ids)]):
        of_stage = Counts(int(row["in_flight"]), int(row["succeeded"]), int(row["failed"]))
        found.setdefault(row["rollout_id"], {})[row["stage"]] = of_stage
    return found


async def stages(rollout_ids: Sequence[int]) -> dict[int, list[RolloutStage]]:
    """By rollout, in their order."""
    found: dict[int, list[RolloutStage]] = {}
    for stage in await RolloutStage.filter(rollout_id__in=list(rollout_ids)).order_by("number"):
        found.setdefault(stage.rollout_id, []).append(stage)  # type: ignore[attr-defined]  # a Tortoise column
    return found


_COUNTS = f"""
    SELECT rollout_id, stage, sum(CASE WHEN {UNDER_WAY} THEN 1 ELSE 0 END) AS in_flight,
           sum(CASE WHEN state = 'SUCCEEDED' THEN 1 ELSE 0 END) AS succeeded,
           sum(CASE WHEN {FAILING} THEN 1 ELSE 0 END) AS failed
      FROM rollout_device WHERE rollout_id = ANY($1) GROUP BY rollout_id, stage ORDER BY rollout_id, stage"""


# ── how it goes ──
_UNDER_WAY = f"SELECT device_id FROM rollout_device WHERE rollout_id = $1 AND {UNDER_WAY} ORDER BY device_id"


async def _begin(
    firmware: Firmware, product: Product, group: DeviceGroup | None, terms: Terms, now: datetime, by: Viewer, *, waits: bool
) -> Course:
    rollout = await Rollout.create(
        product=product,
        firmware=firmware,
        group_id=group.id if group is not None else None,
        to_group=group is not None,
        state=RolloutState.AWAITING_APPROVAL if waits else RolloutState.RUNNING,
        max_in_flight=terms.max_in_flight,
        jitter_s=terms.jitter_s,
        window=terms.window.to_store() if terms.window is not None else None,
        rolls_back=terms.rolls_back,
        forces=terms.forces,
        created_at=now,
        created_by=by.actor,
        author_id=by.user.id if by.user is not None else None,
    )
    stages = [
        await RolloutStage.create(
            rollout=rollout, number=number, percent=stage.percent, devices=stage.devices, max_failure_percent=stage.max_failure_percent,
            healthy_for_s=stage.healthy_for_s, state=RolloutState.DRAFT,
        )
        for number, stage in enumerate(terms.stages)
    ]  # fmt: skip
    course = Course(rollout, product, firmware, stages)
    await advancing.lay_out(course)
    if waits:  # else its first stage begins at once, which counts
        await advancing.count_targets(course)
    return course


async def _set_off(course: Course, now: datetime) -> None:
    course.rollout.state, course.rollout.started_at = RolloutState.RUNNING, now
    await course.rollout.save(update_fields=["state", "started_at"])
    await advancing.begin_stage(course, 0, now)


async def _turn(rollout: Rollout, before: RolloutState, after: RolloutState, action: str, by: Viewer) -> Rollout:
    _require(rollout, by)
    async with transaction():
        course = await _held(rollout, (before,), f"It is not {before.lower()}")
        course.rollout.state = course.stage.state = after
        course.rollout.walked_to = ""  # whom it would meet may have changed meanwhile
        await course.rollout.save(update_fields=["state", "walked_to"])
        await course.stage.save(update_fields=["state"])
        await staging.audit(course, action, by=by)
    return course.rollout


def _require(rollout: Rollout, by: Viewer, action: str = "rollout.steer") -> None:
    product: Product = rollout.product
    organization: Organization = product.organization
    by.must(action, organization.id, product.id)
    require_active(organization)


async def _held(rollout: Rollout, states: Sequence[RolloutState], refusal: str) -> Course:
    """The rollout as it is now, held to the commit. Raises InvalidInput unless it is in one of the states."""
    course = await staging.hold(rollout.id)
    if course is None:
        raise NotFound("This rollout is gone.", path=("id",))
    if course.rollout.state not in states:
        raise InvalidInput(f"{refusal}: it is {course.rollout.state}.", reason=course.rollout.state, path=("id",))
    return course


# ── terms ──
def _check(terms: Terms) -> None:
    stages = terms.stages
    grow = all(_grow([getattr(stage, size) for stage in stages]) for size in ("percent", "devices"))
    one_each = all((stage.percent is None) != (stage.devices is None) for stage in stages)
    if not 1 <= len(stages) <= STAGES_MAX or not grow or not one_each or stages[-1].percent != 100:
        raise InvalidInput(
            f"Give 1 to {STAGES_MAX} stages, each by percent or by devices, growing from at least 1; the last is 100 percent.",
            path=("stages",),
        )
    for number, stage in enumerate(terms.stages):
        _within(stage.max_failure_percent, 0, 100, ("stages", str(number), "maxFailurePercent"))
        _within(stage.healthy_for_s, 0, HEALTHY_MAX_S, ("stages", str(number), "healthyForSeconds"))
    _within(terms.max_in_flight, 1, IN_FLIGHT_MAX, ("maxInFlight",))
    _within(terms.jitter_s, 0, JITTER_MAX_S, ("jitterSeconds",))


def _grow(sizes: Sequence[int | None]) -> bool:
    said = [size for size in sizes if size is not None]
    return said == sorted(set(said)) and all(1 <= size <= DEVICES_MAX for size in said)


def _within(value: int, least: int, most: int, path: tuple[str, ...]) -> None:
    if not least <= value <= most:
        raise InvalidInput(f"{path[-1]} is from {least} to {most}.", path=path)
