"""What a viewer may do with a device that is in their scope: a team's by its role, a customer's own, a person's own kit."""

from typing import Any

from auth.viewer import Viewer
from billing.access import require_active, require_active_for
from models.device import Device
from models.organization import Organization
from models.product import Product


def must_use(device: Device, action: str, by: Viewer) -> int | None:
    """Refuse unless this viewer may do what customers, too, do with devices of theirs; its organization's id for the audit.

    Raises Forbidden, and OrganizationInactive for the team; customers and their devices go on.
    """
    if device.product is None or by.customer is not None:
        by.must_with_own(action)
        return None if device.product is None else int(device.product.organization_id)
    organization: Organization = device.product.organization
    by.must(action, organization.id, device.product.id)
    require_active_for(by, organization)
    return organization.id


def must_write(device: Device, action: str, by: Viewer) -> None:
    """Refuse whoever may not change this device. Raises Forbidden, NotFound, OrganizationInactive."""
    if by.customer is not None:
        by.must_be_user()
    product: Product | None = device.product
    if product is None:
        by.must_hold("devices:write")  # a person's own kit
        return
    organization: Organization = product.organization
    by.must(action, organization.id, product.id)
    require_active(organization)


def must_read(device: Device, by: Viewer) -> None:
    """Refuse a token that may not read devices. Raises Forbidden."""
    product: Any = device.product
    if product is not None and is_known_to(product, by):
        by.must("device.read", product.organization_id, product.id)
    else:
        by.must_with_own("device.read")


def is_known_to(product: Any, viewer: Viewer) -> bool:
    """Whether the viewer is of the product's team: a kit that was kept out of a product tells its owner nothing of it."""
    return viewer.belongs_to(product.organization_id, product.id)
