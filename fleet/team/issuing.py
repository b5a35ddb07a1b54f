"""Tokens for programs: a person's access tokens, and API users with the one token each of them has."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from auth.credentials import issue, revoke
from auth.scopes import Holder, covers, parse_scopes
from auth.spelling import require_text
from auth.tokens import Kind
from auth.viewer import Viewer
from billing.access import require_active
from errors import Forbidden, InvalidInput, NotFound
from fleet.auditing import record
from models.account import ApiUser, Token
from models.organization import Organization
from models.product import Product
from models.transaction import transaction
from settings import Settings


async def create_access_token(
    name: str, *, scopes: Sequence[str], expires_at: datetime | None, settings: Settings, by: Viewer
) -> tuple[Token, str]:
    """A token of the person asking, for programs; its text comes second and is shown once.

    Without `expires_at` it lasts 90 days, at most a year. Raises InvalidInput for unknown scopes or a time out of range, and
    Forbidden for a program: a token that could make tokens would outlive its own end.
    """
    user, now = by.must_be_user(), datetime.now(UTC)
    granted = parse_scopes(scopes, holder=Holder.PERSON)
    ends = expires_at or now + timedelta(seconds=settings.access_token_default_ttl_s)
    if not now < ends <= now + timedelta(seconds=settings.access_token_max_ttl_s):
        raise InvalidInput(f"expiresAt lies within the next {settings.access_token_max_ttl_s // 86400} days.", path=("expiresAt",))
    label = require_text(name, path=("name",))
    async with transaction():
        minted, token = await issue(Kind.ACCESS_TOKEN, owner=user, now=now, name=label, scopes=granted, expires_at=ends)
        await record(by, "token.created", f"token:{token.prefix}", organization_id=None, name=label, scopes=list(granted))
    return token, minted.text


async def revoke_access_token(token_id: int, *, by: Viewer) -> None:
    """End one of the asking person's own tokens or sessions. Raises NotFound for anybody else's."""
    user = by.must_be_user()
    async with transaction():
        token = await Token.filter(id=token_id, user_id=user.id, revoked_at=None).first()
        if token is None or not await revoke(now=datetime.now(UTC), id=token_id):
            raise NotFound("You have no such token, or it is revoked already.", path=("id",))
        await record(by, "token.revoked", f"token:{token.prefix}", organization_id=None, name=token.name)


async def create_api_user(
    organization: Organization, name: str, *, scopes: Sequence[str], product: Product | None, by: Viewer
) -> tuple[ApiUser, str]:
    """A machine account of the organization, or of one product of it; the token comes second and is shown once.

    Raises InvalidInput for unknown scopes, Forbidden for more of them than the asking token has, NotFound for a product of
    another organization.
    """
    by.must("api_user.write", organization.id)
    require_active(organization)
    granted, label, now = _scopes_for_machine(scopes, by), require_text(name, path=("name",)), datetime.now(UTC)
    if product is not None and product.organization_id != organization.id:  # type: ignore[attr-defined]  # a Tortoise column
        raise NotFound("This organization has no such product.", path=("productId",))
    async with transaction():
        machine = await ApiUser.create(organization=organization, product=product, name=label, scopes=list(granted), created_at=now)
        minted, _ = await issue(Kind.API_USER, owner=machine, now=now)
        await record(by, "api_user.created", f"api-user:{label}", organization_id=organization.id, scopes=list(granted))
    return machine, minted.text


async def update_api_user(machine: ApiUser, *, scopes: Sequence[str], by: Viewer) -> tuple[ApiUser, str]:
    """Other scopes for a machine: always with a new token; the old one ends at once. Raises as create_api_user does."""
    organization: Organization = machine.organization
    by.must("api_user.write", organization.id)
    require_active(organization)
    granted, before, now = _scopes_for_machine(scopes, by), machine.scopes, datetime.now(UTC)
    async with transaction():
        if not await ApiUser.filter(id=machine.id).update(scopes=list(granted)):  # holds the row: of two at once, one token lives
            raise NotFound("This API user was deleted just now.", path=("id",))
        await revoke(now=now, api_user_id=machine.id)
        minted, _ = await issue(Kind.API_USER, owner=machine, now=now)
        await record(
            by, "api_user.updated", f"api-user:{machine.name}", organization_id=organization.id, before=before, after=list(granted)
        )
    machine.scopes = list(granted)
    return machine, minted.text


async def delete_api_user(machine: ApiUser, *, by: Viewer) -> None:
    """End a machine account and its token."""
    organization: Organization = machine.organization
    by.must("api_user.write", organization.id)
    require_active(organization)
    async with transaction():
        if not await ApiUser.filter(id=machine.id).delete():
            raise NotFound("This API user is gone already.", path=("id",))
        await record(by, "api_user.deleted", f"api-user:{machine.name}", organization_id=organization.id)


def _scopes_for_machine(scopes: Sequence[str], by: Viewer) -> tuple[str, ...]:
    granted = parse_scopes(scopes, holder=Holder.API_USER)
    for scope in granted:
        if not covers(by.token_scopes, scope):
            raise Forbidden(f"Your token lacks the scope {scope}, so it cannot give it.", reason=scope, path=("scopes",))
    return granted
