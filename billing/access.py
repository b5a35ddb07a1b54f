"""Whether an organization's team has access: the one question the rest of the house asks of billing."""

from errors import OrganizationInactive
from models.organization import BillingState, Organization

# Source: guide, "Failed Payments" and "Cancelling a subscription": devices and customers go on, the team waits outside.
WITHOUT_ACCESS = (BillingState.LOCKED, BillingState.INACTIVE, BillingState.INCOMPLETE)


def require_active(organization: Organization) -> None:
    """Raises OrganizationInactive while the organization's subscription gives its team no access."""
    if organization.billing_state in WITHOUT_ACCESS:
        raise OrganizationInactive("This organization's subscription is inactive: re-activate it under billing.")


async def seats_changed(organization: Organization) -> None:
    """Called inside the transaction that adds or removes a member, which holds the organization's row.

    With billing off nobody is charged, so there is nothing to do; a subscription follows the seats from here.
    """
