"""Customers whose accounts are kept here (the method SIMPLE): signing up, logging in, their address and their password."""

from datetime import UTC, datetime

from tortoise.exceptions import IntegrityError

from auth import throttle
from auth.viewer import Viewer
from errors import WrongCredentials
from fleet import customer_accounts as accounts
from fleet.auditing import record
from fleet.house import House
from models.account import Token
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
    now = datetime.now(UTC)
    opening = await accounts.prepare(username, password, email=email)
    await house.throttle.take(throttle.sign_ups_from(by.address or ""), now=now)
    async with transaction():
        customer = await accounts.open_account(product, opening, by=by, now=now)
        return await accounts.open_session(customer, AuthMethod.SIMPLE, house=house, now=now)


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
