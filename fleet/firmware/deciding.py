"""Which firmware a device should run, and why: a pure function of plain facts."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from firmware_formats.platforms import PARTICLE_ID, same_platform

_PARTICLE_ID: dict[str, int] = {str(platform): number for platform, number in PARTICLE_ID.items()}


class FirmwareRule(StrEnum):
    """The rules, the highest precedence first."""

    NOT_ALLOWED = "NOT_ALLOWED"
    DEVELOPMENT = "DEVELOPMENT"
    LOCKED = "LOCKED"
    ROLLOUT = "ROLLOUT"
    GROUP_RELEASE = "GROUP_RELEASE"
    PRODUCT_RELEASE = "PRODUCT_RELEASE"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class GroupRelease:
    """What is released to a group the device is in, or to one above it."""

    path: str
    version: int


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """How the product's open rollout, of which there is at most one, concerns the device."""

    state: str  # a RolloutState
    version: int
    reached: bool = False  # it is in a stage that was reached, and in the rollout's group
    touched: bool = False  # it was offered the version
    runs_it: bool = False
    former_version: int | None = None  # what it ran before it was touched
    rolls_back: bool = False


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """All that the decision depends on. The product's facts are None for a developer's kit, which is in no product."""

    state: str
    product_id: int | None = None  # the number
    product_platform: str | None = None
    allow_generic: bool = False
    said_hello: bool = False  # ever; before that it has reported nothing
    reported_product_id: int | None = None
    platform: str | None = None
    forced: bool = False
    development: bool = False
    locked_version: int | None = None
    rollout: RolloutFacts | None = None
    group_releases: tuple[GroupRelease, ...] = ()
    product_release: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`version` is None where the rule has no target. `because` has one sentence for every rule looked at, in their order."""

    rule: FirmwareRule
    version: int | None
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen at one rule: whether it fits, the target if it does, and the sentence that says so."""

    rule: FirmwareRule
    fits: bool
    reason: str
    version: int | None = None


@lru_cache(maxsize=1024)  # the devices of a fleet differ little in what decides
def decide(facts: DeviceFacts) -> Decision:
    """Look at the rules in their order and take the first that fits.

    Updates that are blocked or put off by the device change nothing here: they are only not offered.
    Source: guide, "Releasing firmware" and "Recommended development flow"; vocabulary, "Firmware decision".
    """
    because: list[str] = []
    for look in _looks(facts):
        because.append(f"{look.rule}: {'yes' if look.fits else 'no'}, {look.reason}")
        if look.fits:
            return Decision(look.rule, look.version, tuple(because))
    raise AssertionError("The last rule always fits.")


def reports_the_product(facts: DeviceFacts) -> bool:
    """Whether the firmware itself says this product; with generic firmware allowed, the platform's own number says it, too."""
    if facts.product_id is None or facts.product_platform is None:
        return False
    generic = _PARTICLE_ID.get(facts.product_platform) if facts.allow_generic else None
    return facts.reported_product_id is not None and facts.reported_product_id in (facts.product_id, generic)


def _looks(facts: DeviceFacts) -> Iterator[_Look]:
    obstacle = _obstacle(facts)
    yield _Look(FirmwareRule.NOT_ALLOWED, obstacle is not None, obstacle or "it is an active device of the product.")
    marked = "it is a development device." if facts.development else "it is no development device."
    yield _Look(FirmwareRule.DEVELOPMENT, facts.development, marked)
    lock = facts.locked_version
    yield _Look(FirmwareRule.LOCKED, lock is not None, f"it is locked to version {lock}." if lock else "it is not locked.", lock)
    yield _rollout(facts.rollout)
    yield _group_release(facts)
    released = facts.product_release
    sentence = f"version {released} is released to the product." if released else "nothing is released to the product."
    yield _Look(FirmwareRule.PRODUCT_RELEASE, released is not None, sentence, released)
    yield _Look(FirmwareRule.NONE, True, "no rule has a version for it.")


def _rollout(rollout: RolloutFacts | None) -> _Look:
    """A running one acts on whom it has reached. Paused or halted it moves nobody further, and nobody back by itself."""
    if rollout is None:
        return _Look(FirmwareRule.ROLLOUT, False, "no rollout is open.")
    what, target = f"the rollout of version {rollout.version}", rollout.version
    match rollout.state:
        case "RUNNING" if rollout.reached or rollout.touched:
            return _Look(FirmwareRule.ROLLOUT, True, f"{what} has reached it.", target)
        case "RUNNING":
            return _Look(FirmwareRule.ROLLOUT, False, f"{what} has not reached it.")
        case "PAUSED" if rollout.touched:
            return _Look(FirmwareRule.ROLLOUT, True, f"{what} is paused and has reached it.", target)
        case "HALTED" if rollout.rolls_back and rollout.touched and rollout.former_version is not None:
            back = rollout.former_version
            return _Look(FirmwareRule.ROLLOUT, True, f"{what} was halted and takes it back to version {back}.", back)
        case "HALTED" if rollout.touched and rollout.runs_it and not rollout.rolls_back:
            return _Look(FirmwareRule.ROLLOUT, True, f"{what} was halted, and it runs that version.", target)
    return _Look(FirmwareRule.ROLLOUT, False, f"{what} is {rollout.state.lower().replace('_', ' ')}.")


def _group_release(facts: DeviceFacts) -> _Look:
    if not facts.group_releases:
        return _Look(FirmwareRule.GROUP_RELEASE, False, "nothing is released to a group it is in.")
    best = max(facts.group_releases, key=lambda release: (release.version, release.path))
    beside = ", the highest among its groups" if len(facts.group_releases) > 1 else ""
    return _Look(FirmwareRule.GROUP_RELEASE, True, f"version {best.version} is released to the group {best.path}{beside}.", best.version)


def _obstacle(facts: DeviceFacts) -> str | None:
    if facts.product_id is None or facts.product_platform is None:
        return "it is in no product."
    if facts.state != "ACTIVE":
        return f"it is {facts.state}."
    if facts.said_hello and not facts.forced and not reports_the_product(facts):
        reported = "no product" if facts.reported_product_id is None else f"product {facts.reported_product_id}"
        return f"it reports {reported} and is not forced."
    if facts.platform is not None and not same_platform(facts.platform, facts.product_platform):
        return f"it reports the platform {facts.platform}, the product's is {facts.product_platform}."
    return None
