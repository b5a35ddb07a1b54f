"""Doors of organizations and their teams."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet import scope
from fleet.team import entrusting, founding, inviting
from models.account import ApiUser, User
from models.billing import BillingPlan
from models.global_ids import number_of
from models.operations import AuditEntry
from models.organization import Invitation, Member, Organization, ProductRole, Role
from models.product import Product
from resolvers.billing import without_card_numbers
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, given, page

Answer = Mapping[str, Any]


@without_card_numbers
async def create_organization(context: Context, *, name: str, plan: BillingPlan | None = None, card_setup_id: str | None = None) -> Answer:
    setup = number_of("CardSetup", card_setup_id, path=("cardSetupId",)) if card_setup_id else None
    organization = await founding.create_organization(name, plan=plan, card_setup_id=setup, house=context.house, by=context.viewer)
    await context.look_again()
    return {"organization": organization}


async def update_organization(context: Context, *, slug: str, name: str) -> Answer:
    organization = await scope.organization(context.viewer, slug)
    return {"organization": await founding.update_organization(organization, name=name, by=context.viewer)}


async def invite_member(
    context: Context, *, organization: str, email: str, role: Role | None = None, product_roles: list[Any] | None = None
) -> Answer:
    team = await scope.organization(context.viewer, organization)
    wanted = [(each.product_id, each.role) for each in product_roles or ()]
    roles = await entrusting.offered(context.viewer, wanted, field="productRoles")
    invitation = await inviting.invite(team, email, role=role, product_roles=roles, house=context.house, by=context.viewer)
    return {"invitation": invitation}


async def accept_invitation(context: Context, *, id: str) -> Answer:
    invitation = await scope.own_invitation(context.viewer, number_of("Invitation", id))
    member = await inviting.accept(invitation, settings=context.house.settings, by=context.viewer)
    await context.look_again()
    return {"member": member}


async def decline_invitation(context: Context, *, id: str) -> Answer:
    invitation = await scope.own_invitation(context.viewer, number_of("Invitation", id))
    return {"invitation": await inviting.decline(invitation, by=context.viewer)}


async def revoke_invitation(context: Context, *, id: str) -> Answer:
    invitation = await scope.invitation(context.viewer, number_of("Invitation", id))
    return {"invitation": await inviting.revoke_invitation(invitation, by=context.viewer)}


async def change_member_role(context: Context, *, member_id: str, role: Role) -> Answer:
    member = await _member(context, member_id)
    return {"member": await inviting.change_role(member, role, by=context.viewer)}


async def set_product_role(context: Context, *, product_id: int, member_id: str, role: Role) -> Answer:
    product, member = await _product_and_member(context, product_id, member_id)
    return {"member": await entrusting.set_role(product, member, role, by=context.viewer)}


async def remove_product_role(context: Context, *, product_id: int, member_id: str) -> Answer:
    product, member = await _product_and_member(context, product_id, member_id)
    return {"member": await entrusting.remove_role(product, member, by=context.viewer)}


async def _product_and_member(context: Context, product_id: int, member_id: str) -> tuple[Product, Member]:
    return await scope.product(context.viewer, product_id), await _member(context, member_id)


async def _member(context: Context, member_id: str) -> Member:
    return await scope.member(context.viewer, number_of("Member", member_id, path=("memberId",)), field="memberId")


async def remove_member(context: Context, *, member_id: str) -> Answer:
    member = await _member(context, member_id)
    organization = await inviting.remove(member, by=context.viewer)
    await context.look_again()
    return {"organization": organization if context.viewer.belongs_to(organization.id) else None}


# ── reading ──
async def organization_or_null(context: Context, slug: str) -> Organization | None:
    found = await scope.or_null(scope.organization(context.viewer, slug))
    if found is not None:
        context.viewer.must_be_allowed("organization.know", found.id)
    return found


async def members(organization: Organization, context: Context) -> list[Member]:
    context.viewer.must("organization.read", organization.id)
    return await Member.filter(organization_id=organization.id).order_by("id")


async def invitations(organization: Organization, context: Context) -> list[Invitation]:
    context.viewer.must("organization.read", organization.id)
    return await Invitation.filter(organization_id=organization.id).order_by("id")


async def api_users(organization: Organization, context: Context) -> list[ApiUser]:
    context.viewer.must("organization.read", organization.id)
    return await scope.api_users(context.viewer).filter(organization_id=organization.id).order_by("id")


async def products(organization: Organization, context: Context, first: int | None, after: str | None) -> Page[Product]:
    context.viewer.must("product.list", organization.id, context.viewer.bound_product_id)
    found = scope.products(context.viewer).filter(organization_id=organization.id)
    return await page(found, Slice.of(first, after), list_name=f"products:{organization.id}")


async def audit_log(organization: Organization, context: Context, first: int | None, after: str | None, filter: object) -> Page[AuditEntry]:
    context.viewer.must("audit.read", organization.id)
    found = scope.audit_entries(organization, **given(filter))
    return await page(found, Slice.of(first, after), list_name=f"audit:{organization.id}", order=Order(descending=True))


async def user_of(member: Member, context: Context) -> User | None:
    return await context.loaders.users.load(member.user_id)  # type: ignore[attr-defined]  # a Tortoise column


async def product_roles(member: Member, context: Context) -> list[ProductRole]:
    found = await context.loaders.product_roles.load(member.id)
    team = member.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    return [row for row in found if context.viewer.belongs_to(team, row.product_id)]  # type: ignore[attr-defined]  # as above


def offered_roles(invitation: Invitation, context: Context) -> list[ProductRole]:
    team = invitation.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    offered = [ProductRole(product_id=int(product), role=role) for product, role in invitation.product_roles.items()]
    return [row for row in offered if context.viewer.belongs_to(team, row.product_id)]  # type: ignore[attr-defined]  # as above


async def product_of(row: ProductRole, context: Context) -> Product | None:
    return await context.loaders.products.load(row.product_id)  # type: ignore[attr-defined]  # a Tortoise column


async def organization_of(row: Any, context: Context) -> Organization | None:
    return await context.loaders.organizations.load(row.organization_id)


async def invited_by(invitation: Invitation, context: Context) -> User | None:
    return await context.loaders.users.load(invitation.invited_by_id)  # type: ignore[attr-defined]  # a Tortoise column


def invitation_state(invitation: Invitation, context: Context) -> str:
    return invitation.state_at(datetime.now(invitation.expires_at.tzinfo))
