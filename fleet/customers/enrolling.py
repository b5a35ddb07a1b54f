"""Customers as the team makes and ends them."""

from datetime import UTC, datetime

from auth.password_strength import require_strong
from auth.passwords import hash_password
from auth.spelling import require_text
from auth.viewer import Viewer
from billing.access import require_active
from errors import AlreadyExists, NotFound
from fleet.auditing import record
from fleet.customers.accounts import NAME_MAX, address_in, name_key, subject
from fleet.telling import status
from models.customer import Customer
from models.log import DeviceChange
from models.organization import Organization
from models.product import Product
from models.sql import rows
from models.transaction import transaction
from realtime import log


async def create_customer(
    product: Product, username: str, *, external_id: str | None = None, password: str | None = None, by: Viewer
) -> Customer:
    """An account for an end user of the product, made by the team; without a password nobody can log in with it yet.

    Raises AlreadyExists for a user name (in any spelling) or external id that the product has, PasswordTooWeak.
    Source: guide, forum thread "Assigning devices to customers before shipping"; vocabulary, 8.10.
    """
    organization: Organization = product.organization
    by.must("customer.write", organization.id, product.id)
    require_active(organization)
    name = require_text(username, path=("username",), max_length=NAME_MAX)
    key, own_key = name_key(name), None
    if external_id is not None:
        own_key = require_text(external_id, path=("externalId",), max_length=NAME_MAX)
    if password is not None:
        require_strong(password, email=name, path=("password",))
    password_hash = await hash_password(password) if password is not None else None
    async with transaction():
        created = await rows(
            """INSERT INTO customer (product_id, username, username_key, external_id, email, password_hash, created_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id""",
            [product.id, name, key, own_key, address_in(name), password_hash, datetime.now(UTC)],
        )
        if not created:
            await _refuse(product, key)
        customer = await Customer.get(id=created[0]["id"])
        await record(by, "customer.created", subject(customer, product), organization_id=organization.id, external_id=own_key)
    return customer


async def delete_customer(customer: Customer, *, by: Viewer) -> None:
    """End a customer's account and tokens; the devices stay in the product, owned by nobody."""
    product: Product = customer.product
    organization: Organization = product.organization
    by.must("customer.write", organization.id, product.id)
    require_active(organization)
    now = datetime.now(UTC)
    async with transaction():
        if await Customer.filter(id=customer.id).select_for_update().first() is None:
            raise NotFound("This customer is gone already.", path=("id",))
        unclaimed = await rows(
            "UPDATE device SET owner_id = NULL, claimed_at = NULL WHERE owner_id = $1 RETURNING device_id", [customer.id]
        )
        devices = sorted(row["device_id"] for row in unclaimed)
        await Customer.filter(id=customer.id).delete()
        await record(by, "customer.deleted", subject(customer, product), organization_id=organization.id, devices=devices)
        await log.append(*(status(device_id, product.number, DeviceChange.UNCLAIMED, now) for device_id in devices))


async def _refuse(product: Product, key: str) -> None:
    if await Customer.filter(product_id=product.id, username_key=key).exists():
        raise AlreadyExists("The product has a customer of this name.", path=("username",))
    raise AlreadyExists("The product has a customer with this external id.", path=("externalId",))
