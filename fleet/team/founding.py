"""Organizations: founding one, and what can be changed of it."""

import secrets
from contextlib import suppress
from datetime import UTC, datetime

from tortoise.exceptions import IntegrityError

from auth.spelling import require_text, slug_base
from auth.viewer import Viewer
from billing import subscribing
from billing.access import require_active
from errors import AlreadyExists, AlreadyInOrganization, ProviderUnreachable
from fleet.auditing import record
from fleet.billing import paying
from fleet.house import House
from models.account import User
from models.billing import BillingAccount, BillingPlan
from models.organization import Member, Organization, Role
from models.transaction import transaction
from settings import Settings

SLUG_TRIES = 8  # with four random hexadecimal digits each


async def create_organization(
    name: str, *, plan: BillingPlan | None = None, card_setup_id: int | None = None, house: House, by: Viewer
) -> Organization:
    """Found an organization with its trial; whoever asks becomes its owner. Nothing is charged before the trial is over.

    Raises AlreadyInOrganization where the setting max_organizations_per_user is used up; CardRequired, InvalidInput for a setup
    through which no card came, CardDeclined.
    Source: guide, "Setting up an organization".
    """
    user, title = by.must_be_user("organization:write"), require_text(name, path=("name",))
    async with transaction():  # before the payment provider is told of anybody
        await require_room_for(user, house.settings)
    account = await paying.arrange(user, card_setup_id, house.till) if house.till else None
    base = slug_base(title) or "organization"
    for slug in (base, *(f"{base}-{secrets.token_hex(2)}" for _ in range(SLUG_TRIES))):
        with suppress(IntegrityError):  # the slug is taken, perhaps at this very moment
            organization = await _found(slug, title, plan or BillingPlan.TEAM_MONTHLY, account, user, house, by)
            return await _begun(organization, account, house)
    raise AlreadyExists("Every slug made of this name is taken: choose another name.", path=("name",))


async def update_organization(organization: Organization, *, name: str, by: Viewer) -> Organization:
    """Another name; the slug stays, for addresses depend on it."""
    by.must("organization.update", organization.id)
    require_active(organization)
    before, organization.name = organization.name, require_text(name, path=("name",))
    async with transaction():
        await organization.save(update_fields=["name"])
        subject = f"organization:{organization.slug}"
        await record(by, "organization.updated", subject, organization_id=organization.id, before=before, after=organization.name)
    return organization


async def lock(organization: Organization) -> None:
    """Hold the organization's row: whoever counts members, owners or seats, or gives roles, waits here."""
    await Organization.filter(id=organization.id).select_for_update().first()


async def require_room_for(user: User, settings: Settings) -> None:
    """Hold the person's row and refuse one organization too many: of two acceptances at once, one wins.

    Raises AlreadyInOrganization. Source: guide, "Adding team members": only one organization "at this time".
    """
    await User.filter(id=user.id).select_for_update().first()
    limit = settings.max_organizations_per_user
    if limit and await Member.filter(user_id=user.id).count() >= limit:
        raise AlreadyInOrganization("This person belongs to an organization already and has to leave it first.")


async def _found(
    slug: str, title: str, plan: BillingPlan, account: BillingAccount | None, user: User, house: House, by: Viewer
) -> Organization:
    now = datetime.now(UTC)
    async with transaction():
        await require_room_for(user, house.settings)
        organization = await Organization.create(slug=slug, name=title, created_at=now)
        await Member.create(organization=organization, user=user, role=Role.OWNER, joined_at=now)
        if account is not None and house.till is not None:
            await subscribing.adopt(account, organization, plan, now, till=house.till)
        await record(by, "organization.created", f"organization:{organization.slug}", organization_id=organization.id, name=title)
    return organization


async def _begun(organization: Organization, account: BillingAccount | None, house: House) -> Organization:
    """With its subscription at the provider, now if that answers; otherwise the promise made at the founding is kept later."""
    if account is not None and house.till is not None:
        with suppress(ProviderUnreachable):
            await subscribing.start_trial(account.id, house.till)
    return organization
