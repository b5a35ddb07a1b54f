"""How a device of a rollout fares: a pure judgement of plain facts, the same before every offer and in every sweep."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.firmware import OPEN_UPDATE_STATES, UpdateState
from models.rollout import TriedState

RETURNS_MAX = 5  # new sessions while it is watched; with more it is restarting, not merely losing its network
AWAY = timedelta(minutes=30)  # as long as an update may be in flight
RESTARTS_WITHIN = timedelta(seconds=30)  # of a device that is on the line: one that is heard later has not installed it


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a device under way: its row in the rollout, its update, itself, its session, and what it said went wrong."""

    state: TriedState
    update_state: str | None  # None: the update is gone
    update_error: str | None
    offered_at: datetime
    eligible: bool  # still an active device of the product that no lock and no mark keeps from the rollout
    runs_it: bool
    running: int | None  # what it runs, as far as it has proved it
    online: bool
    last_heard: datetime | None
    returns: int  # new sessions since it came back on the version
    watched_at: datetime | None
    healthy_for: timedelta
    errors: int = 0  # events named error… or exception… since it came back
    errors_elsewhere: float = 0.0  # of an average device that does not run the version, in the same time


@dataclass(frozen=True, slots=True)
class Verdict:
    """`error` says why, where it went wrong."""

    state: TriedState
    error: str | None = None


def judge(seen: Seen, now: datetime) -> Verdict | None:
    """What becomes of it now; None while that is open.

    Success is to have come back on the version at a new hello and to have stayed well for as long as the stage asks.
    Source: reliability, rules 9 and 10 of "OTA safety rules"; features, C5.
    """
    if seen.state is TriedState.OFFERED:
        return _judge_offered(seen, now)
    if not seen.eligible:
        return Verdict(TriedState.LEFT)
    return _judge_watched(seen, now)


def _judge_offered(seen: Seen, now: datetime) -> Verdict | None:
    if seen.update_state == UpdateState.SUCCEEDED:
        return Verdict(TriedState.WATCHED) if seen.eligible else Verdict(TriedState.LEFT)
    if seen.update_state in (UpdateState.FAILED, UpdateState.BLOCKED):
        return Verdict(TriedState.FAILED, seen.update_error)
    if seen.update_state not in OPEN_UPDATE_STATES:
        return Verdict(TriedState.LEFT)
    # It dropped in the middle of the download: its place is for others, and it is offered the version again when it returns.
    dropped = seen.update_state == UpdateState.PENDING and not seen.online
    return Verdict(TriedState.LEFT) if dropped and now - seen.offered_at >= AWAY else None


def _judge_watched(seen: Seen, now: datetime) -> Verdict | None:
    if not seen.runs_it:
        fell_to = "no version" if seen.running is None else f"version {seen.running}"
        return Verdict(TriedState.FAILED, f"It fell back to {fell_to}.")
    if seen.returns > RETURNS_MAX:
        return Verdict(TriedState.FAILED, f"It connected anew {seen.returns} times while it was watched.")
    if not seen.online:
        if seen.last_heard is not None and now - seen.last_heard < AWAY:
            return None
        return Verdict(TriedState.FAILED, f"It went away and did not come back within {AWAY // timedelta(minutes=1)} minutes.")
    if seen.watched_at is None or now - seen.watched_at < seen.healthy_for:
        return None
    if seen.errors > seen.errors_elsewhere:
        return Verdict(TriedState.FAILED, f"It reported {seen.errors} errors, other devices {seen.errors_elsewhere:.1f} on average.")
    return Verdict(TriedState.SUCCEEDED)


def passes_threshold(failed: int, targeted: int, max_failure_percent: int) -> bool:
    """Whether more failed than a stage forgives: the failures before that and those in flight bound what was ever offered."""
    return failed * 100 > targeted * max_failure_percent


@dataclass(frozen=True, slots=True)
class Given:
    """An update that was taken back from a device, or that failed, and what was heard of the device. Times in UTC."""

    state: UpdateState
    progress: int
    ended_at: datetime
    last_handshake_at: datetime
    last_heard: datetime


def may_still_boot(given: Given, now: datetime) -> bool:
    """Whether the device may yet come back on the version that it is to run no more.

    A device that was installing it restarts into it, however the update ended here, and may be long in coming: the server it was
    connected to can have died in the middle. What it then says at a hello, or that it is heard later, tells.
    """
    if given.state != UpdateState.CANCELED and given.progress < 100:
        return False
    has_stayed = given.last_heard - given.ended_at >= RESTARTS_WITHIN
    return not has_stayed and given.last_handshake_at <= given.ended_at and now - given.ended_at < AWAY
