"""Tokens that the maker's server fetches for its customers (the method TWO_LEGGED)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from auth.scopes import Holder, parse_scopes
from auth.viewer import Viewer
from billing.access import require_active_for
from errors import InvalidInput
from fleet.auditing import record
from fleet.customers.accounts import hold, must_sign_in_by, subject, token_for
from models.account import Token
from models.customer import Customer
from models.organization import Organization
from models.product import AuthMethod, Product
from models.transaction import transaction
from settings import Settings


async def create_customer_token(
    customer: Customer, *, scopes: Sequence[str], expires_at: datetime | None, settings: Settings, by: Viewer
) -> tuple[Token, str]:
    """A token for one customer, with scopes of a customer's and an end; its text comes second and is shown once.

    Without `expires_at` it lasts a day, at most 90. Raises WrongAuthMethod, InvalidInput for unknown scopes or a time out of range.
    Source: guide, "Two-legged authentication".
    """
    product: Product = customer.product
    organization: Organization = product.organization
    by.must("customer.act_for", organization.id, product.id)
    require_active_for(by, organization)
    await must_sign_in_by(product, AuthMethod.TWO_LEGGED)
    granted, now = parse_scopes(scopes, holder=Holder.CUSTOMER), datetime.now(UTC)
    ends = expires_at or now + timedelta(seconds=settings.customer_token_ttl_s)
    if not now < ends <= now + timedelta(seconds=settings.customer_token_max_ttl_s):
        raise InvalidInput(f"expiresAt lies within the next {settings.customer_token_max_ttl_s // 86400} days.", path=("expiresAt",))
    async with transaction():
        await hold(customer)
        token, text = await token_for(customer, AuthMethod.TWO_LEGGED, scopes=granted, expires_at=ends, now=now)
        what = subject(customer, product)
        await record(by, "customer.token_created", what, organization_id=organization.id, prefix=token.prefix, scopes=list(granted))
    return token, text
