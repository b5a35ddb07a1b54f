"""Whose a device is: a customer claims it or the team assigns it, and neither needs the device to be online."""

from collections.abc import Iterable
from datetime import UTC, datetime

from auth import throttle
from auth.viewer import Viewer
from billing.access import require_active, require_active_for
from errors import DeviceAlreadyClaimed, DeviceNotClaimable, NotFound
from fleet.auditing import record
from fleet.customers.accounts import hold, must_sign_in_by
from fleet.customers.activating import is_private_beta, try_code
from fleet.house import House
from fleet.scope import device_key
from fleet.telling import status
from models.customer import Customer
from models.device import Device, DeviceState
from models.log import DeviceChange, EntryKind
from models.organization import Organization
from models.product import AuthMethod, Product
from models.transaction import transaction
from realtime import log
from realtime.log import Entry


async def claim_device(device_id: str, customer: Customer, *, activation_code: str | None = None, house: House, by: Viewer) -> Device:
    """The customer takes a device of their product that nobody owns, online or not; in a private beta it costs their activation code.

    An API user may say it for a customer where the maker keeps the accounts (SELF_MANAGED).
    Raises NotFound for a device that is not the product's, DeviceAlreadyClaimed, DeviceNotClaimable unless it is ACTIVE,
    ActivationCodeRequired, ActivationCodeWrong (reason LOCKED once there were too many wrong tries), ActivationCodeUsed.
    Source: guide, "Claiming"; details, "Claiming".
    """
    product: Product = customer.product
    organization: Organization = product.organization
    if must_act_for(customer, by):
        await must_sign_in_by(product, AuthMethod.SELF_MANAGED)
    key, now = device_key(device_id), datetime.now(UTC)
    guesses = throttle.guesses_at(f"claim/{customer.id}")
    await house.throttle.take(guesses, now=now)
    async with transaction():
        held = await hold(customer)
        await _require_claimable(key, product)
        wrong = await try_code(held, activation_code, spend=True, now=now) if await is_private_beta(product) else None
        if wrong is None:
            await _take_or_refuse(key, customer, now)
            await record(by, "device.claimed", f"device:{key}", organization_id=organization.id, customer=customer.username)
            await tell_claimed(key, product, now)
    if wrong is not None:
        raise wrong
    await house.throttle.give_back(guesses, now=now)
    return await Device.get(device_id=key)


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
        await hold(customer)
        if not await take(device.device_id, customer, now):
            await _refuse(device.device_id, product, NotFound("The device's product has no such customer.", path=("customerId",)))
        await record(by, "device.assigned", f"device:{device.device_id}", organization_id=organization.id, customer=customer.username)
        await tell_claimed(device.device_id, product, now)
        await device.refresh_from_db()
    return device


def must_act_for(customer: Customer, by: Viewer) -> bool:
    """Refuse whoever is neither this customer, with a token that may claim, nor may act for them; whether it is the latter.

    The team waits while it does not pay; machines that stand for customers go on. Raises Forbidden, NotFound, OrganizationInactive.
    """
    if by.customer is not None and by.customer.id == customer.id:
        by.must_hold("devices:claim")
        return False
    product: Product = customer.product
    organization: Organization = product.organization
    by.must("customer.act_for", organization.id, product.id)
    require_active_for(by, organization)
    return True


async def take(device_id: str, customer: Customer, now: datetime) -> bool:
    """Make the customer the owner of an ACTIVE device of their product that nobody owns; whether it was one."""
    unowned = Device.filter(device_id=device_id, product_id=customer.product_id, owner_id=None, user_owner_id=None)  # type: ignore[attr-defined]  # a Tortoise column
    return bool(await unowned.filter(state=DeviceState.ACTIVE).update(owner_id=customer.id, claimed_at=now))


async def tell_claimed(device_id: str, product: Product, now: datetime) -> None:
    """The last statement of a claim: the log is told, and the owner's history begins there."""
    await begin_history(await log.append(status(device_id, product.number, DeviceChange.CLAIMED, now)))


async def begin_history(appended: Iterable[Entry]) -> None:
    """Note on each device claimed by these entries where its owner's history begins; the rows are held already, nobody is waited for."""
    for entry in appended:
        if entry.kind == EntryKind.STATUS and entry.name == DeviceChange.CLAIMED:
            await Device.filter(device_id=entry.device_id).update(owned_from=entry.position)


async def _require_claimable(device_id: str, product: Product) -> None:
    """Before the code is looked at: nobody learns about a code by a device that could not be claimed anyway."""
    found = await Device.filter(device_id=device_id, product_id=product.id).first()
    if found is None or found.state != DeviceState.ACTIVE or found.owner_id or found.user_owner_id:  # type: ignore[attr-defined]  # Tortoise columns
        await _refuse(device_id, product, NotFound("The product has no such device.", path=("deviceId",)))


async def _take_or_refuse(device_id: str, customer: Customer, now: datetime) -> None:
    if not await take(device_id, customer, now):
        await _refuse(device_id, customer.product, NotFound("The product has no such device.", path=("deviceId",)))


async def _refuse(device_id: str, product: Product, elsewhere: NotFound) -> None:
    found = await Device.filter(device_id=device_id).first()
    if found is None or found.product_id != product.id:  # type: ignore[attr-defined]  # a Tortoise column
        raise elsewhere
    if found.state != DeviceState.ACTIVE:
        raise DeviceNotClaimable(f"The device is {found.state}: the product's team has to approve it first.", path=("deviceId",))
    raise DeviceAlreadyClaimed("Somebody owns this device: they, or the product's team, have to unclaim it first.", path=("deviceId",))
