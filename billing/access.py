"""Whether an organization's team has access: the one question the rest of the house asks of billing."""

from collections.abc import Iterable

from auth.viewer import INACTIVE, Viewer
from billing.seats import seats_changed
from errors import OrganizationInactive
from models.organization import WITHOUT_ACCESS, Organization


def require_active(organization: Organization) -> None:
    """Raises OrganizationInactive while the organization's subscription gives its team no access."""
    if organization.billing_state in WITHOUT_ACCESS:
        raise OrganizationInactive(INACTIVE)


def require_active_for(viewer: Viewer, organization: Organization) -> None:
    """The same for what a device's customer may do as well: status, events, functions, variables.

    A machine account may stand for all customers of a product and goes on; members are refused, customers never are.
    Source: billing, "Access when LOCKED, INACTIVE or INCOMPLETE".
    """
    if viewer.user is not None:
        require_active(organization)


async def inactive_among(organization_ids: Iterable[int]) -> set[int]:
    """Which of these organizations give their team no access at this moment: what a running stream asks every few seconds."""
    found = Organization.filter(id__in=list(organization_ids), billing_state__in=WITHOUT_ACCESS)
    return {organization.id for organization in await found.only("id")}


async def require_still_active(organization_id: int) -> None:
    """For a running stream of a team. Raises OrganizationInactive once access has ended."""
    if await inactive_among([organization_id]):
        raise OrganizationInactive(INACTIVE)


__all__ = ["WITHOUT_ACCESS", "inactive_among", "require_active", "require_active_for", "require_still_active", "seats_changed"]
