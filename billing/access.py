"""Whether an organization's team has access: the one question the rest of the house asks of billing."""

from auth.viewer import INACTIVE, Viewer
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
