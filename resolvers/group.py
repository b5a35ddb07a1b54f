"""Doors of device groups."""

from collections.abc import Mapping
from typing import Any

from fleet import grouping, scope
from fleet.refusing import errors_if_nothing_done
from models.device import Device, DeviceGroup
from models.firmware import Firmware
from models.global_ids import number_of
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, page

Answer = Mapping[str, Any]


async def create_device_group(context: Context, *, product_id: int, name: str, parent: str | None = None) -> Answer:
    product = await scope.product(context.viewer, product_id)
    above = await scope.group(product, parent, field="parent") if parent is not None else None
    return {"group": await grouping.create_group(product, name, parent=above, by=context.viewer)}


async def rename_device_group(context: Context, *, id: str, name: str) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    return {"group": await grouping.rename_group(group, name, by=context.viewer)}


async def delete_device_group(context: Context, *, id: str) -> None:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    await grouping.delete_group(group, by=context.viewer)


async def add_devices_to_group(context: Context, *, group_id: str, device_ids: list[str]) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", group_id, path=("groupId",)), field="groupId")
    done, rejected = await grouping.add_devices(group, device_ids, by=context.viewer)
    return {"group": group, "rejected": rejected, "errors": errors_if_nothing_done(done, rejected)}


async def remove_devices_from_group(context: Context, *, group_id: str, device_ids: list[str]) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", group_id, path=("groupId",)), field="groupId")
    done, rejected = await grouping.remove_devices(group, device_ids, by=context.viewer)
    return {"group": group, "rejected": rejected, "errors": errors_if_nothing_done(done, rejected)}


# ── reading ──
async def groups(product: Product, context: Context) -> list[DeviceGroup]:
    _must_read(product, context)
    return await DeviceGroup.filter(product_id=product.id).select_related("product").order_by("path")


async def group(product: Product, context: Context, name: str) -> DeviceGroup | None:
    _must_read(product, context)
    return await scope.or_null(scope.group(product, name))


async def by_id(context: Context, id: str) -> DeviceGroup:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    _must_read(group.product, context)
    return group


async def parent(group: DeviceGroup, context: Context) -> DeviceGroup | None:
    return await context.loaders.groups.load(group.parent_id)  # type: ignore[attr-defined]  # a Tortoise column


async def children(group: DeviceGroup, context: Context) -> list[DeviceGroup]:
    return await context.loaders.groups_inside.load(group.id)


async def devices(group: DeviceGroup, context: Context, first: int | None, after: str | None) -> Page[Device]:
    found = grouping.devices_in(group)
    return await page(found, Slice.of(first, after), list_name=f"group:{group.id}", order=Order(("device_id",)))


async def released_firmware(group: DeviceGroup, context: Context) -> Firmware | None:
    return await context.loaders.firmwares.load(await context.loaders.group_releases.load(group.id))


def _must_read(product: Product, context: Context) -> None:
    context.viewer.must("device.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
