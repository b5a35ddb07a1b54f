"""The table of acts beside Particle's permission matrix, a row for each of its actions: the same weakest role, or a reason."""

import pytest

from auth.viewer import MAY
from models.organization import Role

OWNER, ADMIN, DEVELOPER, SUPPORT, VIEWER, _ = Role

# Action there, the weakest role that may there, and our acts. Source: docs.particle.io, "Team access controls", "Permissions matrix".
MATRIX = {
    # product: team and settings
    "View Product team": (VIEWER, "organization.read"),
    "Manage Product team": (ADMIN, "member.write"),
    "View Product settings": (VIEWER, "product.read"),
    "Edit Product settings": (ADMIN, "product.update product.configure product.manufacture product.rotate_key"),
    "View Billing & Usage": (ADMIN, "billing.read"),
    # devices
    "View fleet health": (VIEWER, "device.read"),
    "View device": (VIEWER, "device.read"),
    "Subscribe to device events": (VIEWER, "event.read"),
    "View Device Vitals": (VIEWER, "device.read"),
    "Refresh Device Vitals": (SUPPORT, "device.call"),
    "Check device variables": (SUPPORT, "device.call"),
    "Call device functions": (SUPPORT, "device.call"),
    "Ping device": (SUPPORT, "device.call"),
    "Add devices to Product": (DEVELOPER, "device.import device.register device.admit"),
    "Edit device info": (DEVELOPER, "device.update"),
    "Flash firmware to devices": (DEVELOPER, "firmware.flash"),
    "Remove/unclaim devices": (DEVELOPER, "device.remove device.assign"),
    "Create device group": (DEVELOPER, "group.write"),
    "Edit/delete device group": (DEVELOPER, "group.write"),
    "Publish event": (DEVELOPER, "event.publish"),
    # firmware
    "View Product firmware": (VIEWER, "firmware.read rollout.read"),
    "Upload firmware version": (DEVELOPER, "firmware.write"),
    "Release firmware": (DEVELOPER, "firmware.release rollout.steer rollout.approve"),
    "Edit firmware info": (DEVELOPER, "firmware.write"),
    # OAuth clients and customers
    "View OAuth clients": (VIEWER, "oauth_client.read"),
    "Create OAuth client": (DEVELOPER, "oauth_client.write"),
    "Edit/delete OAuth client": (DEVELOPER, "oauth_client.write"),
    "View Customers": (VIEWER, "customer.read"),
    "Create Customers": (DEVELOPER, "customer.write"),
    "Edit/delete Customers": (DEVELOPER, "customer.write customer.act_for"),
    # organization
    "View org team": (VIEWER, "organization.read"),
    "Manage org team": (ADMIN, "member.write"),
    "Create new Product": (DEVELOPER, "product.create"),
}
# Here another role is the weakest; the reasons stand in docs/adr/0018.
OURS = {
    "Edit Product settings": DEVELOPER,
    "View OAuth clients": DEVELOPER,
    "Create OAuth client": ADMIN,
    "Edit/delete OAuth client": ADMIN,
}
# What they have no action for.
ALONE_HERE = {
    *("organization.know", "organization.leave", "organization.update", "product.list", "audit.read", "api_user.write"),
    *("signing_key.write", "billing.write", "release.waive"),
}


@pytest.mark.parametrize("action", MATRIX)
def test_the_weakest_role_is_the_one_of_the_matrix_or_the_one_we_say_why(action: str) -> None:
    theirs, acts = MATRIX[action]

    assert {act: MAY[act].role for act in acts.split()} == dict.fromkeys(acts.split(), OURS.get(action, theirs))


def test_every_act_has_its_row_or_is_ours_alone() -> None:
    covered = {act for _, acts in MATRIX.values() for act in acts.split()}

    assert covered | ALONE_HERE == MAY.keys()
    assert covered & ALONE_HERE == set()
