"""Where a device belongs: the product it is in or waits before, and whether what it reports gives it that product's rights."""

from dataclasses import dataclass
from datetime import datetime

from auth.belonging import of_the_team
from auth.viewer import Viewer
from firmware_formats.platforms import PARTICLE_ID, Platform
from fleet.auditing import record
from fleet.telling import NO_PRODUCT, status
from models.device import Device, DeviceState
from models.log import DeviceChange
from models.product import Product
from models.sql import rows
from realtime.log import NewEntry

_ACTION = {
    DeviceState.ACTIVE: "device.auto_approved",
    DeviceState.QUARANTINED: "device.quarantined",
    DeviceState.DENIED: "device.denied_again",
}


@dataclass(slots=True)
class Arriving:
    """A device that says hello: what a hello reads of its row, and what it may change there."""

    device_id: str
    product_id: int | None
    state: str
    forced: bool
    removed_from_id: int | None
    owner_id: int | None
    user_owner_id: int | None
    public_key: str | None
    secret: str | None
    key_team_id: int | None
    key_person_id: int | None
    reported_product_id: int | None
    firmware_version: int | None
    proven: bool
    platform: str | None
    serial_number: str | None
    functions: list[str] | None
    variables: dict[str, str] | None
    lock_waits: bool


class Products:
    """The products that a batch of devices is in or reports, each read once."""

    def __init__(self) -> None:
        self._by_id: dict[int, Product | None] = {}
        self._by_number: dict[int, Product | None] = {}

    async def by_id(self, id: int | None) -> Product | None:
        if id is not None and id not in self._by_id:
            self._keep(await Product.filter(id=id).first(), id=id)
        return None if id is None else self._by_id[id]

    async def by_number(self, number: int | None) -> Product | None:
        if number is not None and number not in self._by_number:
            self._keep(await Product.filter(number=number).first(), number=number)
        return None if number is None else self._by_number[number]

    def _keep(self, product: Product | None, *, id: int | None = None, number: int | None = None) -> None:
        if product is not None:
            id, number = product.id, product.number
        if id is not None:
            self._by_id[id] = product
        if number is not None:
            self._by_number[number] = product


def number_of(product: Product | None) -> int:
    """The product's number in the log."""
    return NO_PRODUCT if product is None else product.number


def is_ours(device: Device | Arriving, product: Product) -> bool:
    """Whether the product may treat the device as its own: what the firmware reports decides, unless a person forced it.

    With generic firmware allowed, a device that a person brought in may report its platform's number in place of the product's.
    Source: guide, "Your Product ID"; vocabulary, "Device states and identity".
    """
    reported = device.reported_product_id
    if device.forced or reported == product.number:
        return True
    is_generic = reported is not None and reported == PARTICLE_ID.get(Platform(product.platform))
    return is_generic and product.allow_generic_firmware and device.state == DeviceState.ACTIVE


def has_rights(device: Device | Arriving, product: Product | None) -> bool:
    """Whether it takes part: its events are the product's, and the product's events and firmware are for it."""
    return product is not None and device.state == DeviceState.ACTIVE and is_ours(device, product)


async def place(
    device: Arriving, products: Products, *, vouched_by: int | None, address: str | None, now: datetime
) -> tuple[Product | None, list[NewEntry]]:
    """Set product, state and force of a device that has just reported; what the log is to be told. In the caller's transaction.

    A product's own device stays where it is. Any other goes before the product it reports: QUARANTINED, DENIED if it was
    removed from there, ACTIVE if that product approves such devices by itself.
    """
    product = await products.by_id(device.product_id)
    if product is not None and device.state != DeviceState.QUARANTINED:
        if device.forced and device.reported_product_id == product.number:
            device.forced = False
        return product, []
    reported = await products.by_number(device.reported_product_id)
    if reported is None:
        return product, []
    state = await _state_before(reported, device, vouched_by)
    if reported is product and state == DeviceState.QUARANTINED:
        return product, []
    return reported, await _move(device, product, reported, state, address, now)


async def _state_before(product: Product, device: Arriving, vouched_by: int | None) -> DeviceState:
    if device.removed_from_id == product.id:
        return DeviceState.DENIED
    if product.auto_approve and await _is_approvable(product, device, vouched_by):
        return DeviceState.ACTIVE
    return DeviceState.QUARANTINED


_OF_THE_TEAM = f"SELECT 1 WHERE {of_the_team(person='$1', organization='$2', product='$3')}"


async def _is_approvable(product: Product, device: Arriving, vouched_by: int | None) -> bool:
    """Owned by a member of the team, with a key of theirs, or by nobody and made by the team: only they have the provisioning key."""
    owner_id, team_id = device.user_owner_id, product.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    if owner_id is None:
        return vouched_by == product.number
    is_theirs = device.key_person_id == owner_id or device.key_team_id == team_id
    return is_theirs and bool(await rows(_OF_THE_TEAM, [owner_id, team_id, product.id]))


async def _move(
    device: Arriving, former: Product | None, product: Product, state: DeviceState, address: str | None, now: datetime
) -> list[NewEntry]:
    told = []
    if former is not None and former.id != product.id:
        told.append(status(device.device_id, former.number, DeviceChange.REMOVED, now))
    device.product_id, device.state = product.id, state
    organization_id: int = product.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    by = Viewer.house("gateway", address)
    await record(by, _ACTION[state], f"device:{device.device_id}", organization_id=organization_id, product=product.number)
    change = DeviceChange.ADDED if state == DeviceState.ACTIVE else DeviceChange.QUARANTINED
    return [*told, status(device.device_id, product.number, change, now)]
