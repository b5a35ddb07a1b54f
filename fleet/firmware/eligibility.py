"""Who may be moved by a release at all, said in SQL for whole fleets: the first three rules of fleet/firmware/deciding.py.

A property test holds both equal, device by device (tests/fleet/firmware/test_planning.py).
"""

from collections.abc import Callable
from typing import Any

from firmware_formats.platforms import PARTICLE_ID, Platform, same_platform
from models.product import Product

Put = Callable[[Any], str]  # models.sql.Params.put


def not_allowed(product: Product, put: Put) -> str:
    """For statements with `device` and, outer-joined, its `presence`."""
    ours, generic = [product.number], PARTICLE_ID.get(Platform(product.platform))
    if product.allow_generic_firmware and generic is not None:
        ours.append(generic)
    same = [str(platform) for platform in Platform if same_platform(platform, product.platform)]
    reports_it = f"(device.reported_product_id IS NOT NULL AND device.reported_product_id = ANY({put(ours)}))"
    return (
        "(device.state <> 'ACTIVE'"
        f" OR (presence.device_id IS NOT NULL AND NOT device.forced AND NOT {reports_it})"
        f" OR (device.platform IS NOT NULL AND NOT device.platform = ANY({put(same)})))"
    )


def may_be_moved(product: Product, put: Put) -> str:
    """It takes the product's firmware, and neither mark nor lock keeps it from following releases."""
    return f"(NOT {not_allowed(product, put)} AND NOT device.development AND device.desired_firmware_version IS NULL)"
