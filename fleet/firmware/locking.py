"""Locks: fixing devices to a version, now or at their next hello, letting them go, and ending a block."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from auth.viewer import Viewer
from billing.access import require_active
from errors import CallerError, DeviceOffline, InvalidInput, NotFound
from fleet import scope
from fleet.auditing import Json, record
from fleet.firmware import approving
from fleet.firmware.approving import Glass
from fleet.firmware.damage import refuse_damaged
from fleet.firmware.deciding import FirmwareRule, decide
from fleet.firmware.fact_finding import facts_of
from fleet.firmware.offering import cancel_open, cancel_orders, consider_orders, lift_block, runs
from fleet.products.grouping import devices_in
from fleet.refusing import Rejected, require_some
from fleet.seeing import sight
from fleet.telling import status
from models.device import Device, DeviceGroup, DeviceState
from models.firmware import OPEN_UPDATE_STATES, Firmware, Update, UpdateState
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction
from models.whole_rows import fetch
from realtime import log
from realtime.log import NewEntry

_SET_LOCK = "UPDATE device SET desired_firmware_version = $2, lock_waits = $3, lock_forces = $4 WHERE device_id = ANY($1)"


class FlashWhen(StrEnum):
    NOW = "NOW"
    ON_RESET = "ON_RESET"


@dataclass(frozen=True, slots=True)
class How:
    """When devices are brought to the version, whether also past those that put updates off, and an owner's broken glass."""

    when: FlashWhen
    forces: bool = False
    glass: Glass | None = None


@dataclass(slots=True)
class Chosen:
    """The devices a bulk act is about: what was done, and what was refused with its reason."""

    devices: list[Device] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


async def lock_and_flash(
    product: Product,
    version: int,
    how: How,
    *,
    device_ids: Sequence[str] | None,
    group: DeviceGroup | None,
    by: Viewer,
) -> Chosen:
    """Fix devices to a version: those online are brought to it now, or each one at its next hello.

    One that puts updates off keeps its update pending, unless the lock `forces` it.
    NOW refuses devices that are offline, and nothing changes for them. A development device is flashed once, and stays one.
    Raises NotFound for a version the product does not have, BinaryInvalid for one whose file is damaged; InvalidInput unless it is
    told devices or else a group; Forbidden (reason APPROVAL_REQUIRED) for more devices than one person may lock where a second is demanded.
    Source: guide, "Recommended development flow"; vocabulary, "Firmware decision".
    """
    organization: Organization = product.organization
    by.must("firmware.flash", organization.id, product.id)
    require_active(organization)
    ids, now = await _named(device_ids, group), datetime.now(UTC)
    seen = await sight(by, product.id).visible(ids)
    async with transaction():
        firmware = await hold_firmware(product, version)
        chosen = await _choose(product, ids, seen)
        await _refuse_unready(chosen, version, how.when)
        if not chosen.devices:
            return chosen
        keys = [device.device_id for device in chosen.devices]
        before = {device.device_id: device.desired_firmware_version for device in chosen.devices}
        because = await approving.must_be_few(product, version, before, glass=how.glass, by=by)
        await execute(_SET_LOCK, [keys, version, how.when is FlashWhen.ON_RESET, how.forces])
        heard_of = await cancel_open(keys, now, except_firmware_id=firmware.id)
        if how.when is FlashWhen.NOW:
            await _begin_by_hand(chosen.devices, firmware, now)
        for device in chosen.devices:
            device.desired_firmware_version = version
        await _record_lock(product, version, how, chosen.devices, before, because, by)
        entries = [status(key, product.number, DeviceChange.LOCKED, now, version=version) for key in keys]
        entries += cancel_orders(product.number, heard_of, now)
        await log.append(*entries, *(consider_orders(product.number, keys, now) if how.when is FlashWhen.NOW else []))
    return chosen


async def _record_lock(
    product: Product, version: int, how: How, devices: Sequence[Device], before: Json, because: str | None, by: Viewer
) -> None:
    keys = [device.device_id for device in devices]
    lowered = [device.device_id for device in devices if (device.firmware_version or 0) > version]
    detail: dict[str, Json] = {"version": version, "when": how.when, "forces": how.forces, "devices": keys, "before": before}
    action = "device.locked"
    if because is not None:
        action, detail["because"] = "lock.glass_broken", because
    organization_id: int = product.organization.id
    await record(by, action, _subject(product, keys), organization_id=organization_id, downgrade=lowered, **detail)


async def unlock_devices(product: Product, *, device_ids: Sequence[str] | None, group: DeviceGroup | None, by: Viewer) -> Chosen:
    """Let devices follow releases again; what a lock was bringing them is canceled. One that has no lock stays as it is.

    Raises InvalidInput unless it is told devices or else a group.
    """
    organization: Organization = product.organization
    by.must("firmware.flash", organization.id, product.id)
    require_active(organization)
    ids, now = await _named(device_ids, group), datetime.now(UTC)
    seen = await sight(by, product.id).visible(ids)
    async with transaction():
        chosen = await _choose(product, ids, seen)
        before = {d.device_id: d.desired_firmware_version for d in chosen.devices if d.desired_firmware_version is not None}
        if not before:
            return chosen
        keys = list(before)
        await execute(_SET_LOCK, [keys, None, False, False])
        heard_of = await cancel_open(keys, now)
        for device in chosen.devices:
            device.desired_firmware_version = None
        await record(by, "device.unlocked", _subject(product, keys), organization_id=organization.id, devices=keys, before=before)
        entries = [status(key, product.number, DeviceChange.UNLOCKED, now) for key in keys]
        await log.append(*entries, *cancel_orders(product.number, heard_of, now), *consider_orders(product.number, keys, now))
    return chosen


async def unblock_updates(device_ids: Sequence[str], *, by: Viewer) -> Chosen:
    """Offer updates again to devices that failed too often; their failures are counted from nothing. Locks stay."""
    ids = await _named(device_ids, None)
    seen = await scope.devices(by).filter(device_id__in=ids, product_id__not_isnull=True).order_by("device_id")
    products = {device.product.id: device.product for device in seen if device.product is not None}
    for product in products.values():
        by.must("firmware.flash", product.organization.id, product.id)
        require_active(product.organization)
    known, now = {device.device_id for device in seen}, datetime.now(UTC)
    done = Chosen(rejected=[_unknown(key) for key in ids if key not in known])
    async with transaction():
        entries: list[NewEntry] = []
        for product in products.values():
            chosen = await _choose(product, [device.device_id for device in seen if device.product == product], known)
            done.devices += chosen.devices
            done.rejected += chosen.rejected
            entries += await _unblock(
                product, [each for each in chosen.devices if each.update_failures or each.update_blocked_until], now, by
            )
        await log.append(*entries)
    return done


async def _unblock(product: Product, devices: Sequence[Device], now: datetime, by: Viewer) -> list[NewEntry]:
    if not devices:
        return []
    for device in devices:
        await lift_block(device)
    keys = [device.device_id for device in devices]
    await Update.filter(device_id__in=keys, state=UpdateState.BLOCKED).update(state=UpdateState.FAILED)
    organization_id: int = product.organization.id
    await record(by, "update.unblocked", _subject(product, keys), organization_id=organization_id, devices=keys)
    return consider_orders(product.number, keys, now)


async def _named(device_ids: Sequence[str] | None, group: DeviceGroup | None) -> list[str]:
    """Each device once, in the order of the ids: rows are held in one order by everybody."""
    if (device_ids is None) == (group is None):
        raise InvalidInput("Give either deviceIds or group.", path=("deviceIds",))
    if group is not None:
        found: list[Any] = await devices_in(group).values_list("device_id", flat=True)
        return sorted(found)
    ids = device_ids or ()
    require_some(ids)
    return sorted({scope.device_key(each) for each in ids})


async def hold_firmware(product: Product, version: int, *, field: str = "firmwareVersion") -> Firmware:
    """Whoever deletes it waits for our commit, and then sees the lock. `field` is the input's name for the version."""
    found = await fetch(Firmware, "product_id = $1 AND version = $2 FOR NO KEY UPDATE", [product.id, version])
    if not found:
        raise NotFound(f"The product has no firmware version {version}.", path=(field,))
    refuse_damaged(found[0], field=field)
    return found[0]


async def _choose(product: Product, ids: Sequence[str], seen: Collection[str]) -> Chosen:
    """The product's devices of these ids that the viewer sees, their rows held to the commit; every other id is NOT_FOUND."""
    visible = [key for key in ids if key in seen]
    devices = await fetch(Device, "device_id = ANY($1) AND product_id = $2 ORDER BY device_id FOR UPDATE", [visible, product.id])
    found = {device.device_id for device in devices}
    return Chosen(devices, [_unknown(key) for key in ids if key not in found])


def _unknown(device_id: str) -> Rejected:
    return Rejected(device_id, NotFound(f"There is no device {device_id} for you in this product.", path=("deviceIds",)))


async def _refuse_unready(chosen: Chosen, version: int, when: FlashWhen) -> None:
    """Move those that cannot take the lock to the rejected."""
    facts = await facts_of([device.device_id for device in chosen.devices]) if when is FlashWhen.NOW else {}
    ready = []
    for device in chosen.devices:
        refusal = _not_active(device)
        if refusal is None and when is FlashWhen.NOW:
            decision = decide(facts[device.device_id].facts)
            refusal = None if facts[device.device_id].online else _offline(device)
            if refusal is None and decision.rule is FirmwareRule.NOT_ALLOWED:
                refusal = InvalidInput(f"It takes no firmware of this product. {decision.because[0]}", path=("deviceIds",))
        if refusal is None:
            ready.append(device)
        else:
            chosen.rejected.append(Rejected(device.device_id, refusal))
    chosen.devices = ready


def _not_active(device: Device) -> CallerError | None:
    if device.state == DeviceState.ACTIVE:
        return None
    return InvalidInput(f"It is {device.state} and gets no firmware: approve it first.", reason=device.state, path=("deviceIds",))


def _offline(device: Device) -> DeviceOffline:
    return DeviceOffline("It is not connected: lock it ON_RESET, or wait until it is online.", path=("deviceIds",))


async def _begin_by_hand(devices: Iterable[Device], firmware: Firmware, now: datetime) -> None:
    """An update for each that does not run it yet, so that everybody sees at once what is coming."""
    moved = [device.device_id for device in devices if not runs(device, firmware.version)]
    under_way = await rows(
        "UPDATE device_update SET by_hand = TRUE WHERE device_id = ANY($1) AND firmware_id = $2 AND state = ANY($3) RETURNING device_id",
        [moved, firmware.id, list(OPEN_UPDATE_STATES)],
    )
    has_one = {row["device_id"] for row in under_way}
    await execute(
        "INSERT INTO device_update (device_id, firmware_id, state, by_hand, progress, attempt, sequence, started_at)"
        " SELECT device_id, $2, 'PENDING', TRUE, 0, 0, 0, $3 FROM device WHERE device_id = ANY($1)",
        [[device_id for device_id in moved if device_id not in has_one], firmware.id, now],
    )


def _subject(product: Product, device_ids: Collection[str]) -> str:
    return f"device:{next(iter(device_ids))}" if len(device_ids) == 1 else f"product:{product.number}"
