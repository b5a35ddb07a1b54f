"""Returns, in one act and without the device: the owner goes with every right, and the device is readied for the next one."""

from datetime import UTC, datetime

from auth.viewer import Viewer
from billing.access import require_active
from errors import DeviceNotClaimable, Forbidden, InvalidInput
from fleet import scope
from fleet.auditing import record
from fleet.firmware import locking
from fleet.firmware.locking import FlashWhen
from fleet.products import grouping
from fleet.products.defining import lock
from fleet.telling import status
from models.account import User
from models.customer import ClaimCode, Customer
from models.device import Device, DeviceGroup, GroupMembership
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.transaction import retrying, transaction
from realtime import log


async def unclaim_device(device: Device, *, move_to_group: str | None = None, lock_to_version: int | None = None, by: Viewer) -> Device:
    """Take a product's device from its owner, customer or member; it stays in the product, and they see nothing of it from here on.

    The owner's unused claim codes end too: the device may still hold one. The team may put it into one group in place of all its
    others, and lock it to a firmware that it gets at its next hello. A customer may give back their own, and no more.
    Raises InvalidInput if nobody owns it; NotFound for a group or version; all of it is done, or nothing.
    Source: guide, forum thread "Assigning devices to customers before shipping": returns, "without the device connecting".
    """
    product: Product | None = device.product
    if product is None:
        raise DeviceNotClaimable("This is a kit of your own that is in no product: import it into one first.", path=("deviceId",))
    _must_take_back(device, product, by)
    if by.customer is not None and (move_to_group is not None or lock_to_version is not None):
        by.must_be_user()
    group = None if move_to_group is None else await scope.group(by, product, move_to_group, field="moveToGroup")
    if group is not None:
        group.product = product
    await retrying(lambda: _return(device, product, group, lock_to_version, by))
    return device


def _must_take_back(device: Device, product: Product, by: Viewer) -> None:
    organization: Organization = product.organization
    if by.customer is not None:
        by.must_hold("devices:claim")
        _must_own(device, by)
        return
    by.must("device.assign", organization.id, product.id)
    require_active(organization)


def _must_own(device: Device, by: Viewer) -> None:
    """A customer may see a device that is not theirs, by a grant. Raises Forbidden."""
    if by.customer is None or device.owner_id != by.customer.id:  # type: ignore[attr-defined]  # a Tortoise column
        raise Forbidden("Only its owner can give it back.", path=("deviceId",))


async def _return(device: Device, product: Product, group: DeviceGroup | None, version: int | None, by: Viewer) -> None:
    now, organization_id = datetime.now(UTC), product.organization.id
    async with transaction():
        if group is not None or version is not None:
            await lock(product)
        if version is not None:
            await locking.hold_firmware(product, version, field="lockToVersion")  # whoever else locks devices to it holds it before them
        if group is not None:
            await _move(device, group, by)
        owned = await Device.filter(device_id=device.device_id, product_id=product.id).select_for_update(no_key=True).first()
        if owned is not None and by.customer is not None:
            _must_own(owned, by)  # somebody else may have become its owner
        owner = await _owner_of(owned)
        if owned is None or owner is None:
            raise InvalidInput("Nobody owns this device: there is nothing to take back.", path=("deviceId",))
        await Device.filter(device_id=device.device_id).update(owner_id=None, user_owner_id=None, claimed_at=None)
        await ClaimCode.filter(customer_id=owned.owner_id, spent_at=None).delete()  # type: ignore[attr-defined]  # a Tortoise column
        await record(by, "device.unclaimed", f"device:{device.device_id}", organization_id=organization_id, owner=owner)
        if version is not None:
            await _lock(device, product, version, by)
        await device.refresh_from_db()
        device.product = product
        await log.append(status(device.device_id, product.number, DeviceChange.UNCLAIMED, now))


async def _move(device: Device, group: DeviceGroup, by: Viewer) -> None:
    """Out of every other group, whose grants end with that, and into this one."""
    _, rejected = await grouping.add_devices(group, [device.device_id], by=by)
    if rejected:
        raise rejected[0].refusal
    await GroupMembership.filter(device_id=device.device_id).exclude(group_id=group.id).delete()


async def _lock(device: Device, product: Product, version: int, by: Viewer) -> None:
    how = locking.How(FlashWhen.ON_RESET)
    chosen = await locking.lock_and_flash(product, version, how, device_ids=[device.device_id], group=None, by=by)
    if chosen.rejected:
        raise chosen.rejected[0].refusal


async def _owner_of(device: Device | None) -> str | None:
    """How the audit names whoever owns it: a customer, or a member with a kit of their own."""
    if device is None:
        return None
    if customer := await Customer.get_or_none(id=device.owner_id):  # type: ignore[attr-defined]  # a Tortoise column
        return f"customer:{customer.username}"
    if user := await User.get_or_none(id=device.user_owner_id):  # type: ignore[attr-defined]  # a Tortoise column
        return f"user:{user.email}"
    return None
