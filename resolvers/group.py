"""Doors of device groups."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from auth.viewer import Viewer
from errors import InvalidInput
from fleet import scope
from fleet.devices import counting
from fleet.products import granting, grouping
from fleet.refusing import errors_if_nothing_done
from models.account import ApiUser
from models.customer import Customer
from models.device import Device, DeviceGroup, GroupGrant
from models.firmware import Firmware
from models.global_ids import number_of
from models.organization import Member
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, decode_cursor, page

Answer = Mapping[str, Any]


async def create_device_group(context: Context, *, product_id: int, name: str, parent: str | None = None) -> Answer:
    product = await scope.product(context.viewer, product_id)
    above = await scope.group(context.viewer, product, parent, field="parent") if parent is not None else None
    return {"group": await grouping.create_group(product, name, parent=above, by=context.viewer)}


async def rename_device_group(context: Context, *, id: str, name: str) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    return {"group": await grouping.rename_group(group, name, by=context.viewer)}


async def update_device_group(context: Context, *, id: str, **demands: Any) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    return {"group": await grouping.update_group(group, **demands, house=context.house, by=context.viewer)}


async def delete_device_group(context: Context, *, id: str) -> None:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    await grouping.delete_group(group, house=context.house, by=context.viewer)


async def add_devices_to_group(context: Context, *, group_id: str, device_ids: list[str]) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", group_id, path=("groupId",)), field="groupId")
    done, rejected = await grouping.add_devices(group, device_ids, by=context.viewer)
    return {"group": group, "rejected": rejected, "errors": errors_if_nothing_done(done, rejected)}


async def remove_devices_from_group(context: Context, *, group_id: str, device_ids: list[str]) -> Answer:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", group_id, path=("groupId",)), field="groupId")
    done, rejected = await grouping.remove_devices(group, device_ids, by=context.viewer)
    return {"group": group, "rejected": rejected, "errors": errors_if_nothing_done(done, rejected)}


async def grant_group_access(context: Context, *, group_id: str, **to: str | None) -> Answer:
    group, grantee = await _group_and_grantee(context, group_id, **to)
    return {"group": await granting.grant(group, grantee, by=context.viewer)}


async def revoke_group_access(context: Context, *, group_id: str, **to: str | None) -> Answer:
    group, grantee = await _group_and_grantee(context, group_id, **to)
    return {"group": await granting.revoke(group, grantee, by=context.viewer)}


async def _group_and_grantee(context: Context, group_id: str, **to: str | None) -> tuple[DeviceGroup, granting.Grantee]:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", group_id, path=("groupId",)), field="groupId")
    named = [(field, id) for field, id in to.items() if id is not None]
    if len(named) != 1:
        raise InvalidInput("Name a member, a customer or an API user, exactly one of them.", path=("memberId",))
    return group, await _GRANTEES[named[0][0]](context.viewer, named[0][1])


async def _member(viewer: Viewer, id: str) -> Member:
    return await scope.member(viewer, number_of("Member", id, path=("memberId",)), field="memberId")


async def _customer(viewer: Viewer, id: str) -> Customer:
    return await scope.customer(viewer, number_of("Customer", id, path=("customerId",)), field="customerId")


async def _api_user(viewer: Viewer, id: str) -> ApiUser:
    return await scope.api_user(viewer, number_of("ApiUser", id, path=("apiUserId",)), field="apiUserId")


_GRANTEES: Mapping[str, Callable[[Viewer, str], Awaitable[granting.Grantee]]] = {
    "member_id": _member,
    "customer_id": _customer,
    "api_user_id": _api_user,
}


# ── reading ──
async def access(group: DeviceGroup, context: Context) -> list[GroupGrant]:
    product = await context.loaders.products.load(_product_id(group))
    if product is not None:
        context.viewer.must("customer.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
    return await granting.grants_of(group)


async def groups(product: Product, context: Context) -> list[DeviceGroup]:
    _must_read(product, context)
    return await scope.groups(context.viewer, product).select_related("product").order_by("path")


async def group(product: Product, context: Context, name: str) -> DeviceGroup | None:
    _must_read(product, context)
    return await scope.or_null(scope.group(context.viewer, product, name))


async def by_id(context: Context, id: str) -> DeviceGroup:
    group = await scope.group_by_id(context.viewer, number_of("DeviceGroup", id))
    _must_read(group.product, context)
    return group


async def parent(group: DeviceGroup, context: Context) -> DeviceGroup | None:
    above = await context.loaders.groups.load(group.parent_id)  # type: ignore[attr-defined]  # a Tortoise column
    return above if above and seen_of([above], context) else None


def seen_of(found: Sequence[DeviceGroup], context: Context) -> list[DeviceGroup]:
    """Those of a product's groups that the viewer may know of."""
    return [group for group in found if (walls := context.viewer.walls_in(_product_id(group))) is None or group.id in walls.groups]


async def children(group: DeviceGroup, context: Context) -> list[DeviceGroup]:
    return await context.loaders.groups_inside.load(group.id)


async def devices(group: DeviceGroup, context: Context, first: int | None, after: str | None) -> Page[Device]:
    part, name = Slice.of(first, after), f"group:{group.id}"
    keys = decode_cursor(name, part.cursor) if part.cursor is not None else [""]
    rows = await grouping.page_of_devices(group, beyond=str(keys[0]) if keys else "", count=part.size + 1)
    found = await page(rows, part, list_name=name, order=Order(("device_id",)))
    return replace(found, count=partial(counting.in_group, group.id))


async def released_firmware(group: DeviceGroup, context: Context) -> Firmware | None:
    return await context.loaders.firmwares.load(await context.loaders.group_releases.load(group.id))


def _product_id(group: DeviceGroup) -> int:
    return group.product_id  # type: ignore[attr-defined,no-any-return]  # a Tortoise column


def _must_read(product: Product, context: Context) -> None:
    context.viewer.must("device.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
