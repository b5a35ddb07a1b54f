"""Doors of firmware: files, releases, locks, and each device's decision and updates."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet import scope
from fleet.firmware import damage, downloading, locking, releasing, uploading
from fleet.firmware.approving import Glass
from fleet.firmware.fact_finding import Decided
from fleet.firmware.locking import Chosen, FlashWhen
from fleet.refusing import errors_if_nothing_done
from models.account import User
from models.device import Device, DeviceGroup
from models.firmware import Firmware, Update, UpdateState
from models.global_ids import number_of
from models.product import Product
from resolvers.context import Context
from resolvers.gathering import ForAll, Rows
from resolvers.group import seen_of
from resolvers.paging import Order, Page, Slice, page
from resolvers.sent_files import Sent, chunks_of

Answer = Mapping[str, Any]


async def upload_firmware(
    context: Context,
    *,
    product_id: int,
    title: str,
    binary: Sent,
    version: int | None = None,
    description: str | None = None,
    signature: str | None = None,
) -> Answer:
    product, by, house = await scope.product(context.viewer, product_id), context.viewer, context.house
    file = uploading.File(chunks_of(binary, field="binary"), binary.filename, signature)
    told = description or ""
    return {"firmware": await uploading.upload_firmware(product, version, title=title, description=told, file=file, house=house, by=by)}


async def update_firmware(
    context: Context, *, product_id: int, version: int, title: str | None = None, description: str | None = None
) -> Answer:
    firmware = await scope.firmware(context.viewer, product_id, version)
    return {"firmware": await uploading.update_firmware(firmware, title=title, description=description, by=context.viewer)}


async def delete_firmware(context: Context, *, product_id: int, version: int) -> None:
    await uploading.delete_firmware(await scope.firmware(context.viewer, product_id, version), by=context.viewer)


async def release_firmware(
    context: Context,
    *,
    product_id: int,
    version: int,
    group: str | None = None,
    plan_token: str | None = None,
    immediate: bool | None = None,
    force_updates: bool | None = None,
) -> Answer:
    firmware, house = await scope.firmware(context.viewer, product_id, version), context.house
    how = releasing.How(await _group(context, firmware.product, group), bool(immediate), bool(force_updates), plan_token)
    return {"firmware": await releasing.release_firmware(firmware, how, house=house, by=context.viewer)}


async def withdraw_release(context: Context, *, product_id: int, group: str | None = None) -> Answer:
    product = await scope.product(context.viewer, product_id)
    return {"product": await releasing.withdraw_release(product, group=await _group(context, product, group), by=context.viewer)}


async def lock_and_flash(
    context: Context,
    *,
    product_id: int,
    firmware_version: int,
    when: FlashWhen,
    device_ids: list[str] | None = None,
    group: str | None = None,
    force_updates: bool | None = None,
    break_glass: str | None = None,
) -> Answer:
    product = await scope.product(context.viewer, product_id)
    team, glass = await _group(context, product, group), Glass(break_glass, context.house) if break_glass is not None else None
    how = locking.How(when, bool(force_updates), glass)
    chosen = await locking.lock_and_flash(product, firmware_version, how, device_ids=device_ids, group=team, by=context.viewer)
    return _answered(chosen)


async def unlock_devices(context: Context, *, product_id: int, device_ids: list[str] | None = None, group: str | None = None) -> Answer:
    product = await scope.product(context.viewer, product_id)
    team = await _group(context, product, group)
    return _answered(await locking.unlock_devices(product, device_ids=device_ids, group=team, by=context.viewer))


async def unblock_updates(context: Context, *, device_ids: list[str]) -> Answer:
    return _answered(await locking.unblock_updates(device_ids, by=context.viewer))


async def _group(context: Context, product: Product, path: str | None) -> DeviceGroup | None:
    return await scope.group(context.viewer, product, path) if path is not None else None


def _answered(chosen: Chosen) -> Answer:
    errors = errors_if_nothing_done(chosen.devices, chosen.rejected)
    return {"devices": None if errors else chosen.devices, "rejected": chosen.rejected, "errors": errors}


# ── reading ──
async def by_id(context: Context, id: str) -> Firmware:
    firmware = await scope.firmware_by_id(context.viewer, number_of("Firmware", id))
    _must_read(firmware.product, context)
    return firmware


async def update_by_id(context: Context, id: str) -> Update:
    update = await scope.update(context.viewer, number_of("Update", id))
    _must_read(update.firmware.product, context)
    return update


async def firmware(product: Product, context: Context, version: int) -> Firmware | None:
    _must_read(product, context)
    return await context.loaders.versions.load((product.id, version))


async def firmwares(product: Product, context: Context, first: int | None, after: str | None) -> Page[Firmware]:
    _must_read(product, context)
    found, newest_first = Firmware.filter(product_id=product.id), Order(("version",), descending=True)
    return await page(found, Slice.of(first, after), list_name=f"firmwares:{product.id}", order=newest_first)


async def released_firmware(product: Product, context: Context) -> Firmware | None:
    _must_read(product, context)
    return await context.loaders.firmwares.load(await context.loaders.product_releases.load(product.id))


async def product_of(firmware: Firmware, context: Context) -> Product | None:
    return await context.loaders.products.load(firmware.product_id)  # type: ignore[attr-defined]  # a Tortoise column


async def uploaded_by(firmware: Firmware, context: Context) -> User | None:
    return await context.loaders.users.load(firmware.uploaded_by_id)  # type: ignore[attr-defined]  # a Tortoise column


def signed(firmware: Firmware, context: Context) -> bool:
    return bool(firmware.signature)


async def releasable(firmware: Firmware, context: Context) -> bool:
    return firmware.damaged_at is None and (await _running(firmware, context)).proving > 0


async def not_releasable_because(firmware: Firmware, context: Context) -> str | None:
    if await releasable(firmware, context):
        return None
    return (damage.DAMAGED if firmware.damaged_at is not None else releasing.NOT_PROVEN).format(firmware.version)


async def running_on(firmware: Firmware, context: Context) -> int:
    product_id: int = firmware.product_id  # type: ignore[attr-defined]  # a Tortoise column
    if walls := context.viewer.walls_in(product_id):
        return await releasing.running_inside(product_id, firmware.version, walls.groups)
    return (await _running(firmware, context)).devices


async def released(firmware: Firmware, context: Context) -> bool:
    where = await context.loaders.released.load(firmware.id)
    return where.to_product or bool(seen_of(where.groups, context))


async def groups(firmware: Firmware, context: Context) -> list[DeviceGroup]:
    return seen_of((await context.loaders.released.load(firmware.id)).groups, context)


def download_url(firmware: Firmware, context: Context) -> str:
    return downloading.download_url(firmware, context.house)


async def _running(firmware: Firmware, context: Context) -> releasing.Running:
    product_id: int = firmware.product_id  # type: ignore[attr-defined]  # a Tortoise column
    return await context.loaders.running.load((product_id, firmware.version))


# ── of a device ──
@ForAll
async def decision(devices: Rows, context: Context) -> list[Decided | None]:
    await _must_read_firmware_of(devices, context)
    return await context.loaders.decisions.load_all([device.device_id for device in devices])


@ForAll
async def firmware_of_device(devices: Rows, context: Context) -> list[Firmware | None]:
    await _must_read_firmware_of(devices, context)
    return await context.loaders.versions.load_all(
        [
            (device.product_id, device.firmware_version) if device.proven and device.firmware_version is not None else None
            for device in devices
        ]
    )


@ForAll
async def update(devices: Rows, context: Context) -> list[Update | None]:
    await _must_read_firmware_of(devices, context)
    return await context.loaders.last_updates.load_all([device.device_id for device in devices])


async def updates(device: Device, context: Context, first: int | None, after: str | None) -> Page[Update]:
    await _must_read_firmware_of([device], context)
    found = Update.filter(device_id=device.device_id)
    return await page(found, Slice.of(first, after), list_name=f"updates:{device.device_id}", order=Order(descending=True))


@ForAll
async def target(decisions: Rows, context: Context) -> list[Firmware | None]:
    return await context.loaders.versions.load_all([decision.target for decision in decisions])


@ForAll
async def device_of(updates: Rows, context: Context) -> list[Device | None]:
    return await context.loaders.devices.load_all([update.device_id for update in updates])


@ForAll
async def firmware_of(updates: Rows, context: Context) -> list[Firmware | None]:
    return await context.loaders.firmwares.load_all([update.firmware_id for update in updates])


async def blocked_until(update: Update, context: Context) -> datetime | None:
    device: Device | None = await device_of(update, context)
    shows_it = device is not None and update.state in (UpdateState.PENDING, UpdateState.BLOCKED)
    return device.update_blocked_until if device is not None and shows_it else None


async def _must_read_firmware_of(devices: Rows, context: Context) -> None:
    """A developer's own kit is in no product: there is nothing to read."""
    for product in await context.loaders.products.load_all(list({device.product_id for device in devices})):
        if product is not None:
            _must_read(product, context)


def _must_read(product: Product, context: Context) -> None:
    context.viewer.must("firmware.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
