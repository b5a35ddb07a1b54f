"""One device's updates as rows: beginning, failing, blocking and canceling one, always with the device's row held."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from auth.viewer import Viewer
from fleet import jobs
from fleet.auditing import record
from fleet.telling import order, status
from models.device import Device
from models.firmware import OPEN_UPDATE_STATES, Update, UpdateState
from models.log import DeviceChange
from models.product import Product
from models.sql import execute, rows
from models.whole_rows import fetch
from realtime.log import NewEntry
from settings import Settings

CONSIDER_AGAIN = "consider_update"  # a job: {"deviceId": …}; due when a device may be offered an update again
RETRY_AFTER_S = 60  # and twice as long after each further failure
ON_OFFER = (UpdateState.OFFERED, UpdateState.DOWNLOADING, UpdateState.INSTALLING)  # the device has heard of it
GATEWAY = Viewer.house("gateway")


async def hold(device_id: str) -> Device | None:
    """The device's row, held to the end of the transaction: whoever changes its updates comes through here first."""
    return await Device.filter(device_id=device_id).select_for_update().first()


async def open_update(device_id: str) -> Update | None:
    return (await open_updates([device_id])).get(device_id)


async def open_updates(device_ids: Collection[str]) -> dict[str, Update]:
    """What is under way to these devices, by device, each with its firmware."""
    found = await rows(
        "SELECT max(id) AS id FROM device_update WHERE device_id = ANY($1) AND state = ANY($2) GROUP BY device_id",
        [list(device_ids), list(OPEN_UPDATE_STATES)],
    )
    updates = await Update.filter(id__in=[row["id"] for row in found]).select_related("firmware") if found else []
    return {update.device_id: update for update in updates}  # type: ignore[attr-defined]  # a Tortoise column


async def last_updates(device_ids: Collection[str]) -> dict[str, Update]:
    """By device: the one under way, or else the last one."""
    last = "id IN (SELECT max(id) FROM device_update WHERE device_id = ANY($1) GROUP BY device_id)"
    updates = await fetch(Update, last, [list(device_ids)])
    return {update.device_id: update for update in updates}  # type: ignore[attr-defined]  # a Tortoise column


async def product_of(device: Device) -> Product | None:
    id: int | None = device.product_id  # type: ignore[attr-defined]  # a Tortoise column
    return await Product.filter(id=id).first() if id is not None else None


def runs(device: Device, version: int) -> bool:
    """Whether it said so itself, at an authenticated hello as this product; another product's 3 is not our 3."""
    return device.proven and device.firmware_version == version


async def move(update: Update, state: UpdateState, *, progress: int) -> None:
    await _change(update, state=state, progress=progress)


async def finish(update: Update, state: UpdateState, now: datetime, *, error: str | None = None) -> None:
    progress = 100 if state == UpdateState.SUCCEEDED else update.progress
    await _change(update, state=state, error=error, finished_at=now, progress=progress)


async def _change(update: Update, **columns: object) -> None:
    update.update_from_dict(columns)
    await update.save(update_fields=list(columns))


async def fail(device: Device, update: Update, now: datetime, *, error: str) -> None:
    """One failure more in a row; block_if_due() says whether it was one too many."""
    await finish(update, UpdateState.FAILED, now, error=error)
    device.update_failures += 1
    await device.save(update_fields=["update_failures"])


async def block_if_due(device: Device, update: Update | None, now: datetime, settings: Settings) -> bool:
    """Block after as many failures in a row as the settings allow; whether it is blocked now."""
    if device.update_failures < settings.update_max_failures:
        return False
    await block(device, update, now, settings, reason=f"{device.update_failures} failures in a row")
    return True


async def block(device: Device, update: Update | None, now: datetime, settings: Settings, *, reason: str) -> None:
    """Offer nothing for a day; visible at the device's last update, cleared by unblock_updates().

    Source: reliability, rule 9 of "OTA safety rules".
    """
    device.update_blocked_until = now + timedelta(seconds=settings.update_block_s)
    await device.save(update_fields=["update_blocked_until"])
    if update is not None:
        await finish(update, UpdateState.BLOCKED, now, error=update.error or reason)
    await consider_later(device.device_id, at=device.update_blocked_until)
    product = await product_of(device)
    organization_id = product.organization_id if product else None  # type: ignore[attr-defined]  # a Tortoise column
    until = device.update_blocked_until.isoformat()
    await record(GATEWAY, "update.blocked", f"device:{device.device_id}", organization_id=organization_id, until=until, reason=reason)


async def lift_block(device: Device) -> None:
    """Begin to count anew; a lock stays as it is."""
    device.update_blocked_until, device.update_failures, device.offers, device.offers_since = None, 0, 0, None
    await device.save(update_fields=["update_blocked_until", "update_failures", "offers", "offers_since"])


async def consider_later(device_id: str, *, at: datetime) -> None:
    await jobs.put_down(CONSIDER_AGAIN, {"deviceId": device_id}, due_at=at)


async def retry_later(device: Device, now: datetime) -> None:
    """After a while: what broke for one minute is not tried three times in one second."""
    wait = RETRY_AFTER_S * 2 ** max(0, device.update_failures - 1)
    await consider_later(device.device_id, at=now + timedelta(seconds=wait))


async def cancel_open(device_ids: Iterable[str], now: datetime, *, except_firmware_id: int | None = None) -> dict[str, list[int]]:
    """Cancel what is under way to these devices, save to one firmware; the ids of those a device has heard of, by device."""
    found = await rows(
        "SELECT id, device_id, state FROM device_update WHERE device_id = ANY($1) AND state = ANY($2) AND firmware_id <> $3 FOR UPDATE",
        [list(device_ids), list(OPEN_UPDATE_STATES), except_firmware_id or 0],
    )
    return await _cancel(found, now)


async def cancel_updates_to(firmware_id: int, now: datetime) -> dict[str, list[int]]:
    """Cancel what is under way to this firmware, on whatever device; answers as cancel_open does."""
    of_it, open_states = "FROM device_update WHERE firmware_id = $1 AND state = ANY($2)", list(OPEN_UPDATE_STATES)
    held = f"SELECT device_id FROM device WHERE device_id IN (SELECT device_id {of_it}) ORDER BY device_id FOR NO KEY UPDATE"
    await rows(held, [firmware_id, open_states])
    return await _cancel(await rows(f"SELECT id, device_id, state {of_it} FOR UPDATE", [firmware_id, open_states]), now)


async def _cancel(found: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, list[int]]:
    if found:
        canceled = "UPDATE device_update SET state = 'CANCELED', finished_at = $2 WHERE id = ANY($1)"
        await execute(canceled, [[row["id"] for row in found], now])
    heard_of: dict[str, list[int]] = {}
    for row in found:
        if row["state"] in ON_OFFER:
            heard_of.setdefault(row["device_id"], []).append(row["id"])
    return heard_of


# ── what is said about it ──
def progressed(product_number: int, update: Update, device_id: str, now: datetime, *, version: int) -> NewEntry:
    said = {"updateId": str(update.id), "state": update.state, "progress": update.progress, "version": version}
    return status(device_id, product_number, DeviceChange.UPDATE_PROGRESS, now, data=json.dumps(said, separators=(",", ":")))


def cancel_orders(product_number: int, heard_of: dict[str, list[int]], now: datetime) -> list[NewEntry]:
    return [order(device, product_number, "cancel", now, data=str(update_id)) for device, ids in heard_of.items() for update_id in ids]


def consider_orders(product_number: int, device_ids: Collection[str], now: datetime) -> list[NewEntry]:
    return [order(device_id, product_number, "consider", now) for device_id in device_ids]
