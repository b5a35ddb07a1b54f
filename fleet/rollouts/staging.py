"""Offering in stages: whether a device may be offered a rollout's version now, how those under way fare, and the halt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from auth.viewer import Viewer
from fleet.auditing import record
from fleet.firmware.offering import consider_orders
from fleet.rollouts import shares
from fleet.rollouts.judging import Seen, judge, passes_threshold
from fleet.rollouts.windows import Window
from fleet.telling import order
from models.device import Device
from models.firmware import OPEN_UPDATE_STATES, Firmware, Update
from models.log import EntryKind
from models.product import Product
from models.rollout import FAILING, IN_FLIGHT, UNDER_WAY, Rollout, RolloutDevice, RolloutStage, RolloutState, TriedState
from models.sql import execute, read_time, rows
from realtime.log import NewEntry
from realtime.tallies import is_error_in_sql

ROLLOUTS = Viewer.house("rollouts")
TOLD_ONE_BY_ONE = 500  # devices; more than that are told as the whole product, in turn


@dataclass(slots=True)
class Course:
    """An open rollout, its row held to the commit, with what it is about. `entries` are for the log, at the transaction's end."""

    rollout: Rollout
    product: Product
    firmware: Firmware
    stages: list[RolloutStage]
    entries: list[NewEntry] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        return self.rollout.state == RolloutState.RUNNING

    @property
    def stage(self) -> RolloutStage:
        return self.stages[self.rollout.stage]

    def stage_of(self, device_id: str) -> int:
        place = shares.place(self.rollout.id, device_id)
        return next((stage.number for stage in self.stages if place < stage.reach), len(self.stages) - 1)

    def window_is_open(self, now: datetime) -> bool:
        return self.rollout.window is None or Window.stored(self.rollout.window).is_open(now)

    def turns(self, now: datetime) -> str:
        """Devices whose turn (shares.TURN) is below this may be offered the version by now."""
        if not self.rollout.jitter_s or self.stage.reached_at is None:
            return shares.ALL
        return shares.below((now - self.stage.reached_at).total_seconds() / self.rollout.jitter_s)


def size_of(stage: RolloutStage) -> str:
    """How the audit says how far a stage goes."""
    return f"{stage.percent} %" if stage.devices is None else f"{stage.devices} devices"


async def hold(rollout_id: int) -> Course | None:
    """Whoever offers, judges or changes a rollout comes through here: its row is held, and what is counted then stays so."""
    rollout = await Rollout.filter(id=rollout_id).select_for_update().first()
    if rollout is None:
        return None
    stages = await RolloutStage.filter(rollout_id=rollout_id).order_by("number")
    product_id, firmware_id = rollout.product_id, rollout.firmware_id  # type: ignore[attr-defined]  # Tortoise columns
    return Course(rollout, await Product.get(id=product_id), await Firmware.get(id=firmware_id), stages)


@dataclass(frozen=True, slots=True)
class Place:
    """Whether a device has a place among those in flight; `entries` are for the log, at the transaction's end."""

    granted: bool
    course: Course

    @property
    def entries(self) -> list[NewEntry]:
        return self.course.entries


async def take_place(rollout_id: int, device_id: str, now: datetime) -> Place | None:
    """A place in flight for a device that is about to be offered the version, its row held; None if the rollout is gone.

    Those under way are judged first, and failures beyond the stage's threshold halt the rollout: before this offer, not after it.
    A device that is under way already keeps its place.
    Source: reliability, rule 10 of "OTA safety rules".
    """
    course = await hold(rollout_id)
    if course is None:
        return None
    if not course.is_running:
        return Place(False, course)
    await settle(course, now)
    if not course.is_running:
        return Place(False, course)
    tried = await RolloutDevice.filter(rollout_id=rollout_id, device_id=device_id).first()
    if tried is not None and tried.state == TriedState.OFFERED:
        return Place(True, course)
    if tried is not None and tried.state == TriedState.SUCCEEDED and await _fell_back_later(course, tried, now):
        await _halt_if_due(course, now)
        if not course.is_running:
            return Place(False, course)
    has_turn = shares.turn(rollout_id, device_id) < course.turns(now)
    is_free = await in_flight(rollout_id) < course.rollout.max_in_flight
    return Place(has_turn and is_free and course.window_is_open(now), course)


async def offered(course: Course, device: Device, update: Update, now: datetime) -> None:
    """The device, whose place was granted in this transaction, is offered the version by this update."""
    former = device.firmware_version if device.proven else None
    await execute(
        """INSERT INTO rollout_device (rollout_id, device_id, update_id, stage, state, former_version, failures, offered_at)
           VALUES ($1, $2, $3, $4, 'OFFERED', $5, 0, $6)
           ON CONFLICT (rollout_id, device_id) DO UPDATE
              SET state = 'OFFERED', update_id = excluded.update_id,
                  failures = CASE rollout_device.state WHEN 'SUCCEEDED' THEN 0 ELSE rollout_device.failures END,
                  offered_at = CASE rollout_device.state WHEN 'OFFERED' THEN rollout_device.offered_at ELSE excluded.offered_at END,
                  watched_at = NULL, watched_epoch = NULL, settled_at = NULL""",
        [course.rollout.id, device.device_id, update.id, course.stage_of(device.device_id), former, now],
    )


async def in_flight(rollout_id: int) -> int:
    return int((await rows(f"SELECT count(*) AS n FROM rollout_device WHERE rollout_id = $1 AND {UNDER_WAY}", [rollout_id]))[0]["n"])


# ── judging those under way ──
_UNDER_WAY = f"""
    SELECT tried.id, tried.device_id, tried.state, tried.stage, tried.offered_at, tried.watched_at, tried.watched_epoch,
           update_.state AS update_state, update_.error AS update_error,
           device.product_id, device.state AS device_state, device.development, device.desired_firmware_version,
           device.firmware_version, device.proven, presence.online, presence.epoch, presence.last_heard
      FROM rollout_device AS tried
      JOIN device ON device.device_id = tried.device_id
      LEFT JOIN device_update AS update_ ON update_.id = tried.update_id
      LEFT JOIN presence ON presence.device_id = tried.device_id
     WHERE tried.rollout_id = $1 AND tried.{UNDER_WAY}"""


async def settle(course: Course, now: datetime, *, only: Sequence[TriedState] = IN_FLIGHT) -> None:
    """Judge every device under way by what is known of it now, and halt the rollout if too many of a stage have failed."""
    found = [row for row in await rows(_UNDER_WAY, [course.rollout.id]) if row["state"] in only]
    errors = await _errors(course, found, now)
    for row in found:
        verdict = judge(_seen(course, row, errors), now)
        if verdict is None:
            continue
        columns: dict[str, Any] = {"state": verdict.state, "error": verdict.error}
        if verdict.state is TriedState.WATCHED:
            columns |= {"watched_at": now, "watched_epoch": row["epoch"]}
        else:
            columns["settled_at"] = now
        await RolloutDevice.filter(id=row["id"]).update(**columns)
        if verdict.state is TriedState.FAILED:
            await execute("UPDATE rollout_device SET failures = failures + 1 WHERE id = $1", [row["id"]])
    if course.rollout.state != RolloutState.HALTED:
        await _halt_if_due(course, now)


def _seen(course: Course, row: dict[str, Any], errors: "_Errors | None") -> Seen:
    watched_at = row["watched_at"] and read_time(row["watched_at"])
    marked = row["development"] or row["desired_firmware_version"] is not None
    return Seen(
        state=TriedState(row["state"]),
        update_state=row["update_state"],
        update_error=row["update_error"],
        offered_at=read_time(row["offered_at"]),
        eligible=row["product_id"] == course.product.id and row["device_state"] == "ACTIVE" and not marked,
        runs_it=bool(row["proven"]) and row["firmware_version"] == course.firmware.version,
        running=row["firmware_version"] if row["proven"] else None,
        online=bool(row["online"]),
        last_heard=row["last_heard"] and read_time(row["last_heard"]),
        returns=(row["epoch"] or 0) - (row["watched_epoch"] or 0) if row["watched_epoch"] is not None else 0,
        watched_at=watched_at,
        healthy_for=timedelta(seconds=course.stages[row["stage"]].healthy_for_s),
        errors=errors.of(row["device_id"], watched_at) if errors and watched_at else 0,
        errors_elsewhere=errors.elsewhere(watched_at) if errors and watched_at else 0.0,
    )


@dataclass(frozen=True, slots=True)
class _Errors:
    """Error events since the first of those whose watch is over came back, and how many devices run something else meanwhile."""

    events: Sequence[tuple[str, datetime]]
    others: frozenset[str]

    def of(self, device_id: str, since: datetime) -> int:
        return sum(1 for device, at in self.events if device == device_id and at >= since)

    def elsewhere(self, since: datetime) -> float:
        """Of an average device; 0 when there is none to compare with."""
        return sum(1 for device, at in self.events if device in self.others and at >= since) / max(1, len(self.others))


async def _errors(course: Course, found: Sequence[dict[str, Any]], now: datetime) -> _Errors | None:
    """What went wrong since, if it is to be asked now: the watch of one of them is over."""
    watched = [(course.stages[row["stage"]].healthy_for_s, read_time(row["watched_at"])) for row in found if row["watched_at"]]
    over = [at for healthy_for_s, at in watched if (now - at).total_seconds() >= healthy_for_s]
    if not over:
        return None
    events = await rows(
        f"""SELECT device_id, published_at FROM log_entry WHERE product_number = $1 AND kind = $2 AND published_at >= $3
              AND device_id IS NOT NULL AND {is_error_in_sql("name")}""",
        [course.product.number, EntryKind.EVENT, min(over)],
    )
    if not events:
        return None
    others = await rows(
        """SELECT device.device_id FROM device JOIN presence ON presence.device_id = device.device_id AND presence.online
            WHERE device.product_id = $1 AND device.state = 'ACTIVE' AND NOT (device.proven AND device.firmware_version = $2)""",
        [course.product.id, course.firmware.version],
    )
    return _Errors([(row["device_id"], read_time(row["published_at"])) for row in events], frozenset(row["device_id"] for row in others))


async def _fell_back_later(course: Course, tried: RolloutDevice, now: datetime) -> bool:
    """One that had succeeded is to be offered the version again: if nothing else was installed meanwhile, it has failed after all."""
    ended = Update.filter(device_id=tried.device_id).exclude(state__in=OPEN_UPDATE_STATES)  # type: ignore[attr-defined]  # a Tortoise column
    last = await ended.order_by("-id").first()
    if last is not None and last.id != tried.update_id:  # type: ignore[attr-defined]  # a Tortoise column
        return False
    tried.state, tried.failures, tried.error, tried.settled_at = TriedState.FAILED, tried.failures + 1, "It fell back after its watch.", now
    await tried.save(update_fields=["state", "failures", "error", "settled_at"])
    return True


# ── halting ──
async def _halt_if_due(course: Course, now: datetime) -> None:
    failing = await rows(
        f"SELECT stage, count(*) AS failed FROM rollout_device WHERE rollout_id = $1 AND {FAILING} GROUP BY stage ORDER BY stage",
        [course.rollout.id],
    )
    for row in failing:
        stage, failed = course.stages[row["stage"]], int(row["failed"])
        if not passes_threshold(failed, stage.targeted, stage.max_failure_percent):
            continue
        # Counted only now: there may be a million of them, and this is asked before every offer.
        touched = await RolloutDevice.filter(rollout_id=course.rollout.id, stage=stage.number).count()
        targeted = max(stage.targeted, touched)
        if passes_threshold(failed, targeted, stage.max_failure_percent):
            last = await RolloutDevice.filter(rollout_id=course.rollout.id, error__not_isnull=True).order_by("-settled_at", "-id").first()
            why = f" The last: {last.error}" if last is not None else ""
            allowed = f"more than {stage.max_failure_percent} % of stage {stage.number + 1}"
            await halt(course, f"{failed} of {targeted} devices failed, {allowed}.{why}", now, by=ROLLOUTS)
            return


async def halt(course: Course, because: str, now: datetime, *, by: Viewer) -> None:
    """Offer nothing any more; with the rollout's policy its devices go back to what they ran. Audited; everybody touched looks again."""
    rollout, stage = course.rollout, course.stage
    rollout.state, rollout.halted_because, rollout.halted_at, stage.state = RolloutState.HALTED, because, now, RolloutState.HALTED
    await rollout.save(update_fields=["state", "halted_because", "halted_at"])
    await stage.save(update_fields=["state"])
    touched = await RolloutDevice.filter(rollout_id=rollout.id).count()
    detail: dict[str, Any] = {"because": because, "stage": stage.number + 1, "touched": touched, "rollsBack": rollout.rolls_back}
    await audit(course, "rollout.halted", by=by, **detail)
    known = RolloutDevice.filter(rollout_id=rollout.id).order_by("device_id").limit(TOLD_ONE_BY_ONE + 1)
    course.entries += look_again(course.product, [row.device_id for row in await known.only("id", "device_id")], now)  # type: ignore[attr-defined]  # a Tortoise column


async def halt_for(firmware: Firmware, because: str, now: datetime) -> list[NewEntry]:
    """Halt every rollout of this firmware that has not ended; what the log is to be told. With the product held by the caller.

    Source: reliability, rule 1 of "OTA safety rules".
    """
    going = [str(state) for state in (RolloutState.AWAITING_APPROVAL, RolloutState.RUNNING, RolloutState.PAUSED)]
    entries: list[NewEntry] = []
    for row in await rows("SELECT id FROM rollout WHERE firmware_id = $1 AND state = ANY($2)", [firmware.id, going]):
        course = await hold(row["id"])
        if course is not None and course.rollout.state in going:
            await halt(course, because, now, by=ROLLOUTS)
            entries += course.entries
    return entries


def look_again(product: Product, device_ids: Sequence[str], now: datetime) -> list[NewEntry]:
    """Have the sessions of these devices decide anew."""
    if len(device_ids) > TOLD_ONE_BY_ONE:
        return [order(None, product.number, "release", now)]
    return consider_orders(product.number, device_ids, now)


async def audit(course: Course, action: str, *, by: Viewer, **detail: Any) -> None:
    organization_id: int = course.product.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    subject = f"rollout:{course.product.number}/{course.firmware.version}"
    await record(by, action, subject, organization_id=organization_id, rollout=course.rollout.id, **detail)
