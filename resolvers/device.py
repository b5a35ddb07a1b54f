"""Doors of devices: registering, admitting, removing them, and lists of them."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from typing import Any

from fleet import admitting, owning, registering, removing, scope
from fleet.listing import DeviceList, DeviceOrder
from fleet.refusing import errors_if_nothing_done
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceGroup, DeviceState, Presence
from models.global_ids import read_global_id
from models.product import Product
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, decode_cursor, encode_cursor, given, page, shape

Answer = Mapping[str, Any]


async def register_device(
    context: Context, *, device_id: str, public_key: str | None = None, name: str | None = None, rotate: bool | None = None
) -> Answer:
    asked = {"public_key": public_key, "name": name, "rotate": bool(rotate)}
    device, secret = await registering.register_device(device_id, **asked, house=context.house, by=context.viewer)  # type: ignore[arg-type]  # one dict, several types
    return {"device": device, "secret": secret}


async def update_device(context: Context, *, device_id: str, **changes: Any) -> Answer:
    device = await scope.device(context.viewer, device_id)
    return {"device": await registering.update_device(device, changes, by=context.viewer)}


async def remove_devices(context: Context, *, device_ids: list[str]) -> Answer:
    removed, rejected = await removing.remove_devices(device_ids, by=context.viewer)
    return {"removed": removed, "rejected": rejected, "errors": errors_if_nothing_done(removed, rejected)}


async def approve_devices(context: Context, *, device_ids: list[str]) -> Answer:
    return {"devices": await admitting.approve_devices(device_ids, by=context.viewer)}


async def deny_devices(context: Context, *, device_ids: list[str]) -> Answer:
    return {"devices": await admitting.deny_devices(device_ids, by=context.viewer)}


# ── reading: one ──
async def device_or_null(context: Context, device_id: str) -> Device | None:
    found = await scope.or_null(scope.device(context.viewer, device_id))
    if found is not None:
        registering.must_read(found, by=context.viewer)
    return found


async def by_id(context: Context, id: str) -> Device | None:
    return await device_or_null(context, read_global_id(id)[1])


async def device_of(product: Product, context: Context, device_id: str) -> Device | None:
    found = await device_or_null(context, device_id)
    return found if found is not None and found.product is not None and found.product.id == product.id else None


# ── reading: lists ──
async def devices(product: Product, context: Context, filter: object, order_by: DeviceOrder | None, **slice: Any) -> Page[Device]:
    context.viewer.must("device.read", product.organization_id, product.id)  # type: ignore[attr-defined]  # a Tortoise column
    part, order = Slice.of(**slice), order_by or DeviceOrder.LAST_HEARD
    return await _page(await DeviceList.of(product, _plain(filter), order), part, f"devices:{product.id}:{order}")


async def _page(listed: DeviceList, part: Slice, name: str) -> Page[Device]:
    beyond = listed.place(decode_cursor(name, part.cursor)) if part.cursor is not None else None
    found = await listed.read(part.size + 1, beyond=beyond, backward=part.backward)
    cursors = {device.device_id: encode_cursor(name, [place.key, place.device_id]) for place, device in found}
    return shape([device for _, device in found], part, lambda device: cursors[device.device_id], listed.count)


def _plain(filter: object) -> dict[str, Any]:
    """A filter input, and those inside it, as the client has set them."""
    return {name: _plain_value(value) for name, value in given(filter).items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return _plain(value) if is_dataclass(value) else value


async def own_devices(viewer: object, context: Context, first: int | None, after: str | None) -> Page[Device]:
    context.viewer.must_hold("devices:read")
    found = scope.own_devices(context.viewer)
    return await page(found, Slice.of(first, after), list_name="devices:own", order=Order(("device_id",)))


# ── reading: what belongs to one ──
async def product_of(device: Any, context: Context) -> Product | None:
    product = await context.loaders.products.load(device.product_id)
    known = context.viewer.customer is not None or registering.is_known_to(product, context.viewer) if product else False
    return product if known else None


async def notes(device: Any, context: Context) -> str | None:
    return device.notes if await _may_see_the_teams_side(device, context) else None


async def groups(device: Any, context: Context) -> list[DeviceGroup]:
    return await context.loaders.groups_of.load(device.device_id) if await _may_see_the_teams_side(device, context) else []


async def _may_see_the_teams_side(device: Any, context: Context) -> bool:
    product = await context.loaders.products.load(device.product_id)
    return context.viewer.customer is None and (product is None or registering.is_known_to(product, context.viewer))


async def owner(device: Any, context: Context) -> Customer | None:
    return await context.loaders.customers.load(device.owner_id)


async def user_owner(device: Any, context: Context) -> User | None:
    """A stranger whose kit was kept out of a product is not shown to that product's team."""
    mine = context.viewer.user is not None and context.viewer.user.id == device.user_owner_id
    return await context.loaders.users.load(device.user_owner_id) if mine or device.state == DeviceState.ACTIVE else None


async def _presence(device: Device, context: Context) -> Presence | None:
    return await context.loaders.presences.load(device.device_id)


async def online(device: Device, context: Context) -> bool:
    presence = await _presence(device, context)
    return presence is not None and presence.online


async def last_heard(device: Device, context: Context) -> datetime | None:
    presence = await _presence(device, context)
    return owning.known_to(context.viewer, device, presence.last_heard if presence else None)


async def last_handshake_at(device: Device, context: Context) -> datetime | None:
    presence = await _presence(device, context)
    return owning.known_to(context.viewer, device, presence.last_handshake_at if presence else None)


async def last_ip_address(device: Device, context: Context) -> str | None:
    presence = await _presence(device, context)
    return presence.last_ip_address if presence and owning.known_to(context.viewer, device, presence.last_handshake_at) else None


async def flapping(device: Device, context: Context) -> bool:
    presence = await _presence(device, context)
    return presence is not None and presence.flapping_at(datetime.now(UTC))


def functions(device: Device, context: Context) -> list[str]:
    return list(device.functions or ())


def variables(device: Device, context: Context) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in sorted((device.variables or {}).items())]
