"""What a viewer may do with a device that is in their scope: a team's by its role, a customer's own, a person's own kit."""

from auth.viewer import Viewer
from billing.access import require_active_for
from models.device import Device
from models.organization import Organization


def require(by: Viewer, action: str, device: Device) -> int | None:
    """Refuse unless this viewer may do this with a device that scope.device() gave them; its organization's id for the audit.

    Raises Forbidden, and OrganizationInactive for the team; customers and their devices go on.
    """
    if device.product is None or by.customer is not None:
        by.must_with_own(action)
        return None if device.product is None else int(device.product.organization_id)
    organization: Organization = device.product.organization
    by.must(action, organization.id, device.product.id)
    require_active_for(by, organization)
    return organization.id
