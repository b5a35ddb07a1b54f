"""Taking devices out of their products."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from auth.viewer import Viewer
from errors import CallerError, DeviceAlreadyClaimed, InvalidInput, NotFound
from fleet.auditing import record
from fleet.devices.leaving import take_back
from fleet.reaching import must_write
from fleet.refusing import Rejected
from fleet.scope import devices_by_id
from fleet.telling import SENT_AWAY, order, status
from models.device import Device
from models.log import DeviceChange
from models.product import Product
from models.sql import execute, rows
from models.transaction import retrying, transaction
from realtime import log


async def remove_devices(device_ids: Sequence[str], *, by: Viewer) -> tuple[list[str], list[Rejected]]:
    """Take devices out of their product, online or not: the ids removed, and what was refused.

    A claimed device is unclaimed first. Groups, lock and marks go; an open update is canceled; so do name and notes, unless the
    device is a person's own kit, which it then is again. One that comes back by itself is DENIED.
    Source: vocabulary, "Device states and identity".
    """
    found, rejected = await devices_by_id(by, device_ids)
    allowed: list[Device] = []
    for device in found:
        try:
            must_write(device, "device.remove", by)
            _require_removable(device)
            allowed.append(device)
        except CallerError as refusal:
            rejected.append(Rejected(device.device_id, refusal))
    removed = await retrying(lambda: _removed(allowed, by))
    late = [device for device in allowed if device.device_id not in removed]
    return removed, rejected + [Rejected(device.device_id, NotFound("It was claimed or has left meanwhile.")) for device in late]


async def _removed(devices: list[Device], by: Viewer) -> list[str]:
    now, gone, news = datetime.now(UTC), [], []
    async with transaction():
        for product, members in groupby(sorted(devices, key=_by_product), key=lambda device: device.product):
            taken = await _take_out(product, [device.device_id for device in members])
            if taken:
                team = product.organization.id
                await record(by, "device.removed", f"product:{product.number}", organization_id=team, deviceIds=[*taken])
            gone += taken
            news += [status(device_id, product.number, DeviceChange.REMOVED, now) for device_id in taken]
            news += [order(device_id, product.number, "close", now, data=SENT_AWAY) for device_id in taken]
        await take_back(gone, now)
        await log.append(*news)
    return gone


async def _take_out(product: Product, device_ids: list[str]) -> list[str]:
    """Only what is still in this product and nobody's: a claim at the same moment wins."""
    held = await rows(
        "SELECT device_id FROM device WHERE device_id = ANY($1) AND product_id = $2 AND owner_id IS NULL ORDER BY device_id FOR UPDATE",
        [device_ids, product.id],
    )
    taken = [row["device_id"] for row in held]
    await execute(
        "UPDATE device SET product_id = NULL, removed_from_id = product_id, state = 'ACTIVE', import_id = NULL, forced = FALSE"
        " WHERE device_id = ANY($1)",
        [taken],
    )
    return taken


def _by_product(device: Any) -> tuple[int, str]:
    return device.product.id, device.device_id


def _require_removable(device: Device) -> None:
    if device.product is None:
        raise InvalidInput("This device is your own kit and in no product.")
    if device.owner_id is not None:  # type: ignore[attr-defined]  # a Tortoise column
        raise DeviceAlreadyClaimed("A customer owns it: unclaim it first.")
