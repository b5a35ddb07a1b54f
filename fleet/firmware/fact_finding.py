"""Reads what the decision about a device's firmware depends on, for any number of devices at once."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet.firmware.deciding import DeviceFacts, FirmwareRule, GroupRelease, RolloutFacts, decide
from fleet.rollouts.shares import REACHED
from models.firmware import Firmware
from models.rollout import OPEN_ROLLOUT_STATES
from models.sql import numbers, read_time, rows
from models.whole_rows import fetch


@dataclass(frozen=True, slots=True)
class Found:
    """The facts, what the device runs, and which of what was decided for it waits for its next hello."""

    facts: DeviceFacts
    online: bool
    product_key: int | None  # of its product, not its number
    running_version: int | None  # what it said itself, at an authenticated hello as this product
    waiting: frozenset[tuple[str, int]]  # rule and version
    forced: frozenset[tuple[str, int]]  # rule and version: to be offered although the device puts updates off
    rollout_id: int | None  # the product's open one


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, its target named by the product's key and the version."""

    rule: FirmwareRule
    because: tuple[str, ...]
    target: tuple[int, int] | None


_FACTS = f"""
    SELECT device.device_id, device.state, device.reported_product_id, device.platform, device.forced, device.development,
           device.desired_firmware_version, device.lock_waits, device.lock_forces, device.firmware_version, device.proven,
           device.product_id, product.number, product.platform AS product_platform,
           product.allow_generic_firmware, firmware.version AS released, product_release.released_at,
           product_release.immediate, product_release.forces, presence.last_handshake_at, presence.online,
           rollout.id AS rollout_id, rollout.state AS rollout_state, rollout.rolls_back, rolled.version AS rollout_version,
           rollout.forces AS rollout_forces,
           CASE WHEN {REACHED} THEN 1 ELSE 0 END AS reached, tried.id AS tried_id, tried.former_version
      FROM device
      LEFT JOIN product ON product.id = device.product_id
      LEFT JOIN product_release ON product_release.product_id = product.id
      LEFT JOIN firmware ON firmware.id = product_release.firmware_id
      LEFT JOIN presence ON presence.device_id = device.device_id
      LEFT JOIN rollout ON rollout.product_id = product.id AND rollout.state = ANY($2)
      LEFT JOIN firmware AS rolled ON rolled.id = rollout.firmware_id
      LEFT JOIN rollout_device AS tried
             ON tried.rollout_id = rollout.id AND tried.device_id = device.device_id
     WHERE device.device_id = ANY($1)"""

_GROUP_RELEASES = """
    SELECT membership.device_id, above.path, firmware.version, release.released_at, release.immediate, release.forces
      FROM group_membership AS membership
      JOIN device ON device.device_id = membership.device_id
      JOIN group_above AS way ON way.group_id = membership.group_id
      JOIN device_group AS above ON above.id = way.above_id AND above.product_id = device.product_id
      JOIN group_release AS release ON release.group_id = above.id
      JOIN firmware ON firmware.id = release.firmware_id
     WHERE membership.device_id = ANY($1)"""


async def facts_of(device_ids: Sequence[str]) -> dict[str, Found]:
    """By device id; ids that name no device are left out."""
    ids = list(device_ids)
    of_groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await rows(_GROUP_RELEASES, [ids]):
        of_groups[row["device_id"]].append(row)
    return {row["device_id"]: _found(row, of_groups[row["device_id"]]) for row in await rows(_FACTS, [ids, list(OPEN_ROLLOUT_STATES)])}


async def decisions(device_ids: Sequence[str]) -> dict[str, Decided]:
    """What each of these devices should run; ids that name no device are left out."""
    return {device_id: _decided(found) for device_id, found in (await facts_of(device_ids)).items()}


def _decided(found: Found) -> Decided:
    decision = decide(found.facts)
    names_one = decision.version is not None and found.product_key is not None
    return Decided(decision.rule, decision.because, (found.product_key, decision.version) if names_one else None)  # type: ignore[arg-type]  # neither is None then


async def versions(of: Collection[tuple[int, int]]) -> dict[tuple[int, int], Firmware]:
    """Firmware by product (its key, not its number) and version."""
    pairs = [numbers({product for product, _ in of}), numbers({version for _, version in of})]
    found = await fetch(Firmware, "product_id = ANY($1::text::bigint[]) AND version = ANY($2::text::bigint[])", pairs)
    return {(firmware.product_id, firmware.version): firmware for firmware in found}  # type: ignore[attr-defined]  # a Tortoise column


def _found(row: dict[str, Any], group_releases: Sequence[dict[str, Any]]) -> Found:
    by_path = sorted({(each["path"], each["version"]) for each in group_releases})
    facts = DeviceFacts(
        state=row["state"],
        product_id=row["number"],
        product_platform=row["product_platform"],
        allow_generic=bool(row["allow_generic_firmware"]),
        said_hello=row["last_handshake_at"] is not None,
        reported_product_id=row["reported_product_id"],
        platform=row["platform"],
        forced=bool(row["forced"]),
        development=bool(row["development"]),
        locked_version=row["desired_firmware_version"],
        rollout=_rollout(row),
        group_releases=tuple(GroupRelease(path, version) for path, version in by_path),
        product_release=row["released"],
    )
    handshake_at = row["last_handshake_at"] and read_time(row["last_handshake_at"])
    running = row["firmware_version"] if row["proven"] else None
    return Found(
        facts,
        bool(row["online"]),
        row["product_id"],
        running,
        frozenset(_waiting(row, group_releases, handshake_at)),
        _forced(row, group_releases),
        row["rollout_id"],
    )


def _forced(row: dict[str, Any], group_releases: Sequence[dict[str, Any]]) -> frozenset[tuple[str, int]]:
    forced = {("GROUP_RELEASE", each["version"]) for each in group_releases if each["forces"]}
    if row["forces"]:
        forced.add(("PRODUCT_RELEASE", row["released"]))
    if row["rollout_forces"]:
        forced |= {("ROLLOUT", row["rollout_version"]), ("ROLLOUT", row["former_version"])}
    if row["lock_forces"]:
        forced.add(("LOCKED", row["desired_firmware_version"]))
    return frozenset(forced)


def _rollout(row: dict[str, Any]) -> RolloutFacts | None:
    if row["rollout_id"] is None:
        return None
    return RolloutFacts(
        state=row["rollout_state"],
        version=row["rollout_version"],
        reached=bool(row["reached"]),
        touched=row["tried_id"] is not None,
        runs_it=bool(row["proven"]) and row["firmware_version"] == row["rollout_version"],
        former_version=row["former_version"],
        rolls_back=bool(row["rolls_back"]),
    )


def _waiting(row: dict[str, Any], group_releases: Sequence[dict[str, Any]], handshake_at: datetime | None) -> list[tuple[str, int]]:
    waiting = [("GROUP_RELEASE", each["version"]) for each in group_releases if _waits(each, handshake_at)]
    if row["released"] is not None and _waits(row, handshake_at):
        waiting.append(("PRODUCT_RELEASE", row["released"]))
    if row["lock_waits"]:
        waiting.append(("LOCKED", row["desired_firmware_version"]))
    acting = {each["version"] for each in group_releases if not _waits(each, handshake_at)}
    return [(rule, version) for rule, version in waiting if rule != "GROUP_RELEASE" or version not in acting]


def _waits(release: dict[str, Any], handshake_at: datetime | None) -> bool:
    if release["immediate"] or handshake_at is None:
        return False
    return read_time(release["released_at"]) > handshake_at
