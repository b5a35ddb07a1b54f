"""Doors of devices: registering, admitting, removing them, and lists of them."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from typing import Any

from fleet import reaching, scope
from fleet.devices import admitting, owning, registering, removing
from fleet.devices.listing import DeviceList, DeviceOrder
from fleet.refusing import errors_if_nothing_done
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceGroup, DeviceState, Presence
from models.global_ids import read_global_id
from models.product import Product
from resolvers.context import Context
from resolvers.gathering import ForAll, Rows
from resolvers.group import seen_of
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
        reaching.must_read(found, context.viewer)
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
    return await _page(await DeviceList.of(product, _plain(filter), order, by=context.viewer), part, f"devices:{product.id}:{order}")


async def _page(listed: DeviceList, part: Slice, name: str) -> Page[Device]:
    beyond = listed.place(decode_cursor(name, part.cursor)) if part.cursor is not None else None
    found = await listed.read(part.size + 1, beyond=beyond, backward=part.backward)
    keys = {device.device_id: key for key, device in found if key is not None}

    def cursor_of(device: Device) -> str:
        return encode_cursor(name, [keys.get(device.device_id), device.device_id])

    return shape([device for _, device in found], part, cursor_of, listed.count)


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


# ── reading: what belongs to each of many ──
@ForAll
async def product_of(devices: Rows, context: Context) -> list[Product | None]:
    products = await context.loaders.products.load_all([device.product_id for device in devices])
    return [product if product is not None and _is_known(product, context) else None for product in products]


def _is_known(product: Product, context: Context) -> bool:
    return context.viewer.customer is not None or reaching.is_known_to(product, context.viewer)


@ForAll
async def notes(devices: Rows, context: Context) -> list[str | None]:
    shown = await _on_the_teams_side(devices, context)
    return [device.notes if is_shown else None for device, is_shown in zip(devices, shown, strict=True)]


@ForAll
async def groups(devices: Rows, context: Context) -> list[list[DeviceGroup]]:
    shown = await _on_the_teams_side(devices, context)
    ids = [device.device_id for device, is_shown in zip(devices, shown, strict=True) if is_shown]
    found = iter(await context.loaders.groups_of.load_all(ids))
    return [seen_of(next(found), context) if is_shown else [] for is_shown in shown]


async def _on_the_teams_side(devices: Rows, context: Context) -> list[bool]:
    products = await context.loaders.products.load_all([device.product_id for device in devices])
    by = context.viewer
    return [by.customer is None and (product is None or reaching.is_known_to(product, by)) for product in products]


@ForAll
async def owner(devices: Rows, context: Context) -> list[Customer | None]:
    """A customer who was let into a group is not told whose its devices are."""
    me = context.viewer.customer
    return await context.loaders.customers.load_all(
        [device.owner_id if me is None or me.id == device.owner_id else None for device in devices]
    )


@ForAll
async def user_owner(devices: Rows, context: Context) -> list[User | None]:
    """A stranger whose kit was kept out of a product is not shown to that product's team."""
    me = context.viewer.user.id if context.viewer.user is not None else None
    shown = [device.state == DeviceState.ACTIVE or (me is not None and device.user_owner_id == me) for device in devices]
    wanted = [device.user_owner_id if is_shown else None for device, is_shown in zip(devices, shown, strict=True)]
    return await context.loaders.users.load_all(wanted)


async def _presences(devices: Rows, context: Context) -> list[Presence | None]:
    return await context.loaders.presences.load_all([device.device_id for device in devices])


@ForAll
async def online(devices: Rows, context: Context) -> list[bool]:
    return [presence is not None and presence.online for presence in await _presences(devices, context)]


@ForAll
async def last_heard(devices: Rows, context: Context) -> list[datetime | None]:
    by, presences = context.viewer, await _presences(devices, context)
    moments = [presence.last_heard if presence else None for presence in presences]
    return [owning.known_to(by, device, moment) for device, moment in zip(devices, moments, strict=True)]


@ForAll
async def last_handshake_at(devices: Rows, context: Context) -> list[datetime | None]:
    return _handshakes_known(devices, await _presences(devices, context), context)


@ForAll
async def last_ip_address(devices: Rows, context: Context) -> list[str | None]:
    presences = await _presences(devices, context)
    known = _handshakes_known(devices, presences, context)
    return [presence.last_ip_address if presence and moment else None for presence, moment in zip(presences, known, strict=True)]


def _handshakes_known(devices: Rows, presences: Sequence[Presence | None], context: Context) -> list[datetime | None]:
    """Of those that the viewer may know of."""
    moments = [presence.last_handshake_at if presence else None for presence in presences]
    return [owning.known_to(context.viewer, device, moment) for device, moment in zip(devices, moments, strict=True)]


@ForAll
async def flapping(devices: Rows, context: Context) -> list[bool]:
    now = datetime.now(UTC)
    return [presence is not None and presence.flapping_at(now) for presence in await _presences(devices, context)]


def functions(device: Device, context: Context) -> list[str]:
    return list(device.functions or ())


def variables(device: Device, context: Context) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in sorted((device.variables or {}).items())]
