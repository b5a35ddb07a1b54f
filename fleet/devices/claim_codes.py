"""Claim codes: made for a customer while setting up, shown by the device at its hello, good once."""

from datetime import UTC, datetime, timedelta
from typing import Any

from auth.tokens import Kind, digest, mint, well_formed
from auth.viewer import Viewer
from fleet.auditing import record
from fleet.customers.accounts import as_customer, hold, subject
from fleet.customers.activating import is_private_beta, try_code
from fleet.devices.claiming import must_act_for, take
from fleet.telling import status
from models.customer import ClaimCode, Customer
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.transaction import transaction
from realtime.log import NewEntry
from settings import Settings


async def create_claim_code(
    customer: Customer, *, activation_code: str | None = None, settings: Settings, by: Viewer
) -> tuple[str, datetime]:
    """A code that makes the device which shows it the customer's, and when it ends; its text is shown this once.

    In a private beta it takes the activation code, which the device's claim spends. Raises ActivationCodeRequired,
    ActivationCodeWrong, ActivationCodeUsed.
    Source: guide, "Claiming"; vocabulary, "Events, functions, limits".
    """
    product: Product = customer.product
    organization: Organization = product.organization
    must_act_for(customer, by)
    now = datetime.now(UTC)
    minted, expires_at = mint(Kind.CLAIM_CODE), now + timedelta(seconds=settings.claim_code_ttl_s)
    async with transaction():
        held, is_beta = await hold(customer), await is_private_beta(product)
        wrong = await try_code(held, activation_code, spend=False, now=now) if is_beta else None
        if wrong is None:
            await ClaimCode.filter(customer_id=customer.id, expires_at__lte=now).delete()
            await ClaimCode.create(
                digest=minted.hash, customer=customer, spends_activation=is_beta, created_at=now, expires_at=expires_at
            )  # fmt: skip
            what = subject(customer, product)
            await record(by, "customer.claim_code_created", what, organization_id=organization.id, prefix=minted.shown_prefix)
    if wrong is not None:
        raise wrong
    return minted.text, expires_at


async def hold_bearer(code: str | None, now: datetime) -> ClaimCode | None:
    """The good code behind a text, its customer held: before the device's own row, as everybody who claims does it."""
    if code is None or not well_formed(code):
        return None
    found = await ClaimCode.filter(digest=digest(code), spent_at=None, expires_at__gt=now).select_related("customer").first()
    if found is None or await Customer.filter(id=found.customer.id).select_for_update(no_key=True).first() is None:
        return None
    return found


async def spend(code: ClaimCode, device_id: str, *, address: str | None, now: datetime) -> list[NewEntry]:
    """Make the held device the customer's, if it may be; what the log is to be told. In the transaction of the hello.

    Nobody is refused: a device whose code is spent, or which somebody owns, connects as ever.
    """
    customer: Any = code.customer
    if not await _may_spend(code, now) or not await take(device_id, customer, now):
        return []
    await ClaimCode.filter(digest=code.digest).update(spent_at=now, device_id=device_id)
    if code.spends_activation:
        await Customer.filter(id=customer.id).update(activation_used_at=now)
    product = await Product.get(id=customer.product_id)
    who, team = as_customer(customer, Viewer(address=address)), product.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    await record(who, "device.claimed", f"device:{device_id}", organization_id=team, customer=customer.username)
    return [status(device_id, product.number, DeviceChange.CLAIMED, now)]


async def _may_spend(code: ClaimCode, now: datetime) -> bool:
    """Asked while the customer is held: of two devices with one code, or two codes on one activation, the second finds it spent."""
    living = ClaimCode.filter(digest=code.digest, spent_at=None, expires_at__gt=now)
    if code.spends_activation:
        living = living.filter(customer__activation_used_at=None)
    return await living.exists()
