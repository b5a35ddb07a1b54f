"""Whose a device is: giving one to a customer, and taking it back, neither of which needs the device to be online."""

from datetime import UTC, datetime

from auth.viewer import Viewer
from billing.access import require_active
from errors import DeviceAlreadyClaimed, DeviceNotClaimable, InvalidInput, NotFound
from fleet.auditing import record
from fleet.telling import status
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceState
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.transaction import transaction
from realtime import log


async def assign_device(device: Device, customer: Customer, *, by: Viewer) -> Device:
    """Make the customer the device's owner, on the team's word alone: no code, no act of the customer.

    Raises NotFound for a customer of another product, DeviceAlreadyClaimed when somebody owns it (take it back first),
    DeviceNotClaimable unless it is ACTIVE.
    Source: guide, forum thread "Assigning devices to customers before shipping"; vocabulary, 8.10.
    """
    product: Product = customer.product
    organization: Organization = product.organization
    by.must("device.assign", organization.id, product.id)
    require_active(organization)
    now = datetime.now(UTC)
    async with transaction():
        await _hold(customer)
        unowned = Device.filter(device_id=device.device_id, product_id=product.id, owner_id=None, user_owner_id=None)
        if not await unowned.filter(state=DeviceState.ACTIVE).update(owner_id=customer.id, claimed_at=now):
            await _refuse(device, product)
        await device.refresh_from_db()
        await record(by, "device.assigned", f"device:{device.device_id}", organization_id=organization.id, customer=customer.username)
        await log.append(status(device.device_id, product.number, DeviceChange.CLAIMED, now))
    return device


async def unclaim_device(device: Device, *, by: Viewer) -> Device:
    """Take a product's device from its owner, customer or member; it stays in the product. Raises InvalidInput if it has none.

    Source: guide, forum thread "Assigning devices to customers before shipping": returns, "without the device connecting".
    """
    product: Product | None = device.product
    if product is None:
        raise DeviceNotClaimable("This is a kit of your own that is in no product: import it into one first.", path=("deviceId",))
    organization: Organization = product.organization
    by.must("device.assign", organization.id, product.id)
    require_active(organization)
    now = datetime.now(UTC)
    async with transaction():
        owned = await Device.filter(device_id=device.device_id, product_id=product.id).select_for_update(no_key=True).first()
        owner = await _owner_of(owned)
        if owned is None or owner is None:
            raise InvalidInput("Nobody owns this device.", path=("deviceId",))
        await Device.filter(device_id=device.device_id).update(owner_id=None, user_owner_id=None, claimed_at=None)
        await device.refresh_from_db()
        await record(by, "device.unclaimed", f"device:{device.device_id}", organization_id=organization.id, owner=owner)
        await log.append(status(device.device_id, product.number, DeviceChange.UNCLAIMED, now))
    return device


async def _hold(customer: Customer) -> None:
    """Whoever deletes the customer waits. Raises NotFound when somebody did."""
    if await Customer.filter(id=customer.id).select_for_update(no_key=True).first() is None:
        raise NotFound("There is no such customer for you.", path=("customerId",))


async def _owner_of(device: Device | None) -> str | None:
    """How the audit names whoever owns it: a customer, or a member with a kit of their own."""
    if device is not None and (customer := await Customer.get_or_none(id=device.owner_id)):  # type: ignore[attr-defined]  # a Tortoise column
        return f"customer:{customer.username}"
    if device is not None and (user := await User.get_or_none(id=device.user_owner_id)):  # type: ignore[attr-defined]  # a Tortoise column
        return f"user:{user.email}"
    return None


async def _refuse(device: Device, product: Product) -> None:
    found = await Device.filter(device_id=device.device_id).first()
    if found is None or found.product_id != product.id:  # type: ignore[attr-defined]  # a Tortoise column
        raise NotFound("The device's product has no such customer.", path=("customerId",))
    if found.state != DeviceState.ACTIVE:
        raise DeviceNotClaimable(f"The device is {found.state}: approve it first.", path=("deviceId",))
    raise DeviceAlreadyClaimed("Somebody owns this device: unclaim it first.", path=("deviceId",))
