"""Granting groups: whom a group lets in or holds inside, with all that is below it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from auth.viewer import RANK, Viewer
from billing.access import require_active
from errors import InvalidInput, NotFound
from fleet.auditing import record
from fleet.products.defining import lock
from fleet.products.grouping import subject
from models.account import ApiUser
from models.customer import Customer
from models.device import DeviceGroup, GroupGrant
from models.organization import Member, Organization, ProductRole, Role
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction

Grantee: TypeAlias = Member | Customer | ApiUser


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a grantee is stored, named in the input, and which act on the team or its customers granting to one is."""

    column: str
    field: str
    action: str


_KINDS: dict[type[Grantee], _Kind] = {
    Member: _Kind("member_id", "memberId", "member.write"),
    Customer: _Kind("customer_id", "customerId", "customer.write"),
    ApiUser: _Kind("api_user_id", "apiUserId", "api_user.write"),
}


async def grant(group: DeviceGroup, to: Grantee, *, by: Viewer) -> DeviceGroup:
    """Let a customer see and use what is in the group, or hold a member or an API user inside it; again changes nothing.

    It counts at once, in running streams too. A member or an API user with grants in a product sees only those groups of it.
    Raises NotFound for a customer of another product or somebody of another organization, InvalidInput for an owner or admin.
    Source: details, "Groups as walls".
    """
    product, organization, kind = _must(group, to, by)
    _require_of(product, to, kind)
    async with transaction():
        await lock(product)
        await _hold(group, to, kind)
        made = await rows(
            f"INSERT INTO group_grant (group_id, {kind.column}, created_at) VALUES ($1, $2, $3)"
            f" ON CONFLICT (group_id, {kind.column}) DO NOTHING RETURNING id",
            [group.id, to.id, datetime.now(UTC)],
        )
        if made:
            detail = {"path": group.path, "to": await _name(to)}
            await record(by, "group.granted", subject(group), organization_id=organization.id, **detail)
    return group


async def revoke(group: DeviceGroup, to: Grantee, *, by: Viewer) -> DeviceGroup:
    """Take a grant back, at once; where there is none nothing changes.

    Whoever of the team has no other grant in the product sees all of it again, as their role or scopes say.
    """
    product, organization, kind = _must(group, to, by)
    async with transaction():
        await lock(product)
        if await execute(f"DELETE FROM group_grant WHERE group_id = $1 AND {kind.column} = $2", [group.id, to.id]):
            detail = {"path": group.path, "to": await _name(to)}
            await record(by, "group.revoked", subject(group), organization_id=organization.id, **detail)
    return group


async def grants_of(group: DeviceGroup) -> list[GroupGrant]:
    """Who was granted this very group, in the order it was done; their rows at hand."""
    found = GroupGrant.filter(group_id=group.id).order_by("id")
    return await found.select_related("member", "customer", "api_user")


def _must(group: DeviceGroup, to: Grantee, by: Viewer) -> tuple[Product, Organization, _Kind]:
    product: Product = group.product
    organization: Organization = product.organization
    kind = _KINDS[type(to)]
    by.must(kind.action, organization.id, product.id if isinstance(to, Customer) else None)
    require_active(organization)
    return product, organization, kind


def _require_of(product: Product, to: Grantee, kind: _Kind) -> None:
    match to:
        case Customer():
            known = to.product_id == product.id  # type: ignore[attr-defined]  # a Tortoise column
        case ApiUser():
            known = to.organization_id == product.organization_id and to.product_id in (None, product.id)  # type: ignore[attr-defined]
        case Member():
            known = to.organization_id == product.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    if not known:
        raise NotFound("The group's product knows nobody by this id.", path=(kind.field,))


async def _hold(group: DeviceGroup, to: Grantee, kind: _Kind) -> None:
    """Both as they are now, held to the commit. Raises NotFound for what is gone, InvalidInput for whom no wall holds."""
    if not await DeviceGroup.filter(id=group.id).exists():
        raise NotFound("This group is gone already.", path=("groupId",))
    held = await type(to).filter(id=to.id).select_for_update(no_key=True).first()
    if held is None:
        raise NotFound("The group's product knows nobody by this id.", path=(kind.field,))
    if isinstance(held, Member):
        own = await ProductRole.filter(member_id=held.id, product_id=group.product.id).first()
        role = Role((own or held).role)
        if RANK[role] >= RANK[Role.ADMIN]:
            raise InvalidInput(f"An {role} sees everything: give them a weaker role first.", path=(kind.field,))


async def _name(to: Grantee) -> str:
    if isinstance(to, Customer):
        return f"customer:{to.username}"
    if isinstance(to, ApiUser):
        return f"api-user:{to.name}"
    await to.fetch_related("user")
    return f"user:{to.user.email}"
