"""Customers whose accounts are kept here (the methods SIMPLE and OAUTH): signing up, logging in and out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from tortoise.exceptions import IntegrityError

from auth import throttle
from auth.credentials import revoke
from auth.viewer import Viewer
from errors import WrongCredentials
from fleet.auditing import record
from fleet.customers import accounts
from fleet.customers.passwords import ask_to_prove_email
from fleet.house import House
from models.account import Token
from models.customer import Customer
from models.organization import Organization
from models.product import AuthMethod, Product
from models.transaction import transaction


async def sign_up(
    product: Product, username: str, password: str, *, email: str | None = None, house: House, by: Viewer
) -> tuple[Token, str]:
    """Open an account of the product and log it in: the session, its customer at hand, and its token's text.

    An account that an import has made for this user name is completed, and keeps its activation code.
    Raises WrongAuthMethod, AlreadyExists (that this tells is why sign-ups are counted), PasswordTooWeak, InvalidInput.
    Source: guide, "Simple authentication".
    """
    await accounts.must_sign_in_by(product, AuthMethod.SIMPLE)
    async with _opened(product, username, password, email=email, house=house, by=by) as customer:
        return await accounts.open_session(customer, AuthMethod.SIMPLE, house=house, now=datetime.now(UTC))


async def sign_up_for_app(product: Product, username: str, password: str, *, house: House, by: Viewer) -> Customer:
    """The same on the way to an app (the method OAUTH): an account, and no token before the customer has consented. Raises likewise."""
    await accounts.must_sign_in_by(product, AuthMethod.OAUTH)
    async with _opened(product, username, password, email=None, house=house, by=by) as customer:
        return customer


async def log_in(product: Product, username: str, password: str, *, house: House, by: Viewer) -> tuple[Token, str]:
    """A new session, its customer at hand, and its token's text. Raises WrongAuthMethod, WrongCredentials."""
    await accounts.must_sign_in_by(product, AuthMethod.SIMPLE)
    customer = await accounts.prove_account(product, username, password, house=house, by=by)
    organization: Organization = product.organization
    try:
        async with transaction():
            session = await accounts.open_session(customer, AuthMethod.SIMPLE, house=house, now=datetime.now(UTC))
            who, what = accounts.as_customer(customer, by), accounts.subject(customer, product)
            await record(who, "customer.logged_in", what, organization_id=organization.id)
    except IntegrityError:  # deleted just now
        raise WrongCredentials(accounts.WRONG) from None
    return session


async def log_out(customer: Customer, *, by: Viewer) -> None:
    """End the token that asks, however the customer came by it; nothing happens to their others."""
    product = await Product.get(id=customer.product_id).select_related("organization")  # type: ignore[attr-defined]  # a Tortoise column
    organization: Organization = product.organization
    async with transaction():
        if by.token is not None and await revoke(now=datetime.now(UTC), id=by.token.id):
            await record(by, "customer.logged_out", accounts.subject(customer, product), organization_id=organization.id)


@asynccontextmanager
async def _opened(
    product: Product, username: str, password: str, *, email: str | None, house: House, by: Viewer
) -> AsyncIterator[Customer]:
    """The new account, in the transaction that stores it."""
    now, opening = datetime.now(UTC), await accounts.prepare(username, password, email=email)
    await house.throttle.take(throttle.sign_ups_from(by.address or ""), now=now)
    async with transaction():
        customer = await accounts.open_account(product, opening, by=by, now=now)
        await ask_to_prove_email(customer, house=house, now=now)
        yield customer
