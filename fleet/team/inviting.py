"""The team: inviting people, their answer, their roles, and their leaving."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from auth import throttle
from auth.spelling import require_email, same_name_key
from auth.viewer import Viewer
from billing.access import require_active
from billing.seats import seats_changed
from errors import AlreadyInOrganization, AlreadyInvited, InvalidInput, LastOwner, NoSuchAccount, NotFound
from fleet import jobs
from fleet.auditing import record
from fleet.house import House
from fleet.team import entrusting, letters
from fleet.team.entrusting import require_no_less, require_power_over, reread
from fleet.team.founding import lock, require_room_for
from models.account import User
from models.global_ids import global_id
from models.organization import Invitation, InvitationState, Member, Organization, Role
from models.product import Product
from models.transaction import transaction
from settings import Settings


async def invite(
    organization: Organization,
    email: str,
    *,
    role: Role | None,
    product_roles: Sequence[tuple[Product, Role]] = (),
    house: House,
    by: Viewer,
) -> Invitation:
    """Invite a person who has an account; without a role they become an ADMIN, the guide's full access.

    With NONE they will see only the products of `product_roles`, in each of which they get that role.
    Raises NoSuchAccount, AlreadyInOrganization, AlreadyInvited; Forbidden when an ADMIN makes an OWNER; InvalidInput, NotFound for
    roles in products that cannot be.
    Source: guide, "Adding team members".
    """
    by.must("member.write", organization.id)
    require_active(organization)
    given, now = role or Role.ADMIN, datetime.now(UTC)
    require_power_over(given, organization, by)
    _check(product_roles, given, organization, by)
    address = require_email(email)
    await house.throttle.take(throttle.invitations_of(by.actor), now=now)
    async with transaction():
        await lock(organization)
        await _require_invitable(organization, address, house.settings, now)
        invitation = await Invitation.create(
            organization=organization,
            email=address,
            email_key=same_name_key(address),
            role=given,
            product_roles={str(product.id): each for product, each in product_roles},
            invited_by=by.user,
            created_at=now,
            expires_at=now + timedelta(seconds=house.settings.invitation_ttl_s),
        )
        products = {str(product.number): each for product, each in product_roles}
        await record(
            by, "invitation.created", f"invitation:{address}", organization_id=organization.id, role=given, products=products
        )  # fmt: skip
        await _mail(invitation, organization, house, by)
    return invitation


async def accept(invitation: Invitation, *, settings: Settings, by: Viewer) -> Member:
    """Take the seat. Raises NotFound when it is no longer open, AlreadyInOrganization, OrganizationInactive."""
    user, now = by.must_be_user("members:write"), datetime.now(UTC)
    organization: Organization = invitation.organization
    require_active(organization)
    async with transaction():
        await lock(organization)
        await require_room_for(user, settings)
        await _answer(invitation, InvitationState.ACCEPTED, now)
        member = await Member.create(organization=organization, user=user, role=invitation.role, joined_at=now)
        await entrusting.take_up(member, {int(product): Role(role) for product, role in invitation.product_roles.items()})
        await seats_changed(organization)
        await record(by, "invitation.accepted", f"invitation:{invitation.email}", organization_id=organization.id, role=member.role)
    return member


async def decline(invitation: Invitation, *, by: Viewer) -> Invitation:
    """Say no; no seat is taken. Raises NotFound when it is no longer open."""
    by.must_be_user("members:write")
    organization: Organization = invitation.organization
    async with transaction():
        await _answer(invitation, InvitationState.DECLINED, datetime.now(UTC))
        await record(by, "invitation.declined", f"invitation:{invitation.email}", organization_id=organization.id)
    return invitation


async def revoke_invitation(invitation: Invitation, *, by: Viewer) -> Invitation:
    """Take an open invitation back. Raises NotFound when it is no longer open."""
    organization: Organization = invitation.organization
    by.must("member.write", organization.id)
    require_active(organization)
    async with transaction():
        await _answer(invitation, InvitationState.REVOKED, datetime.now(UTC))
        await record(by, "invitation.revoked", f"invitation:{invitation.email}", organization_id=organization.id)
    return invitation


async def change_role(member: Member, role: Role, *, by: Viewer) -> Member:
    """Another role; an owner's or admin's ends weaker ones in single products.

    Raises LastOwner, and Forbidden when an ADMIN would make or unmake an OWNER.
    """
    organization: Organization = member.organization
    by.must("member.write", organization.id)
    require_active(organization)
    async with transaction():
        await lock(organization)
        await reread(member)
        require_power_over(role, organization, by)
        require_power_over(Role(member.role), organization, by)
        before = member.role
        if before == Role.OWNER and role != Role.OWNER:
            await _require_another_owner(organization)
        member.role = role
        await member.save(update_fields=["role"])
        await entrusting.end_weaker(member)
        await record(by, "member.role_changed", f"user:{member.user.email}", organization_id=organization.id, before=before, after=role)
    return member


async def remove(member: Member, *, by: Viewer) -> Organization:
    """Take a member out of the team; anybody may leave by themselves, an inactive organization too. Raises LastOwner, Forbidden."""
    organization: Organization = member.organization
    leaves = by.user is not None and member.user.id == by.user.id
    by.must("organization.leave" if leaves else "member.write", organization.id)
    if not leaves:
        require_active(organization)
    async with transaction():
        await lock(organization)
        await reread(member)
        if not leaves:
            require_power_over(Role(member.role), organization, by)
        if member.role == Role.OWNER:
            await _require_another_owner(organization)
        await member.delete()
        await seats_changed(organization)
        await record(by, "member.removed", f"user:{member.user.email}", organization_id=organization.id, role=member.role)
    return organization


def _check(product_roles: Sequence[tuple[Product, Role]], of_team: Role, organization: Organization, by: Viewer) -> None:
    products = [product.id for product, _ in product_roles]
    if len(set(products)) < len(products):
        raise InvalidInput("Name each product once.", path=("productRoles",))
    for place, (product, role) in enumerate(product_roles):
        if product.organization.id != organization.id:
            raise NotFound("The organization has no such product.", path=("productRoles", str(place), "productId"))
        path = ("productRoles", str(place), "role")
        require_power_over(role, organization, by, path=path)
        require_no_less(role, of_team, path=path)


async def _require_invitable(organization: Organization, address: str, settings: Settings, now: datetime) -> None:
    key = same_name_key(address)
    person = await User.filter(email_key=key).first()
    if person is None:
        raise NoSuchAccount("Nobody has an account with exactly this address: ask them to sign up first.", path=("email",))
    if await Member.filter(user_id=person.id, organization_id=organization.id).exists():
        raise AlreadyInOrganization("This person is a member of the organization.", path=("email",))
    seats = await Member.filter(user_id=person.id).count()
    if settings.max_organizations_per_user and seats >= settings.max_organizations_per_user:
        raise AlreadyInOrganization("This person belongs to another organization and has to leave it first.", path=("email",))
    open_ones = Invitation.filter(organization_id=organization.id, email_key=key, state=InvitationState.PENDING)
    await open_ones.filter(expires_at__lte=now).update(state=InvitationState.EXPIRED)
    if await open_ones.exists():
        raise AlreadyInvited("An invitation to this address is open: revoke it to send another.", path=("email",))


async def _answer(invitation: Invitation, state: InvitationState, now: datetime) -> None:
    open_one = Invitation.filter(id=invitation.id, state=InvitationState.PENDING, expires_at__gt=now)
    if not await open_one.update(state=state):
        raise NotFound("This invitation is no longer open.", path=("id",))
    invitation.state = state


async def _require_another_owner(organization: Organization) -> None:
    if await Member.filter(organization_id=organization.id, role=Role.OWNER).count() < 2:
        raise LastOwner("Make somebody else an owner first: an organization keeps at least one.")


async def _mail(invitation: Invitation, organization: Organization, house: House, by: Viewer) -> None:
    user = by.must_be_user("members:write")
    letter = letters.invitation(
        invitation.email,
        organization=organization.name,
        inviter=user.name,
        role=invitation.role if invitation.role != Role.NONE else "a member for single products",
        invitation_id=global_id("Invitation", invitation.id),
        expires_at=invitation.expires_at,
        public_url=house.settings.public_url,
    )
    await jobs.mail(letter, house.sealer)
