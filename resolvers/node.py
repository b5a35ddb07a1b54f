"""The door of global ids: each kind is found the way its own door finds it, so nothing is reachable here alone."""

from collections.abc import Awaitable, Callable
from typing import Any

import resolvers.customer
import resolvers.device
import resolvers.firmware
import resolvers.group
import resolvers.importing
import resolvers.product
import resolvers.rollout
import resolvers.signing
from errors import BadRequest
from fleet import scope
from fleet.billing import bills
from fleet.events import following
from models.global_ids import number_of, read_global_id
from resolvers.context import Context

NODES_MAX = 100

Finder = Callable[[Context, str], Awaitable[Any]]


async def node(context: Context, id: str) -> Any:
    return await scope.or_null(_found(context, id))


async def nodes(context: Context, ids: list[str]) -> list[Any]:
    if len(ids) > NODES_MAX:
        raise BadRequest(f"At most {NODES_MAX} ids at once.")
    return [await node(context, each) for each in ids]


async def _found(context: Context, id: str) -> Any:
    kind, _ = read_global_id(id)
    finder = FINDERS.get(kind)
    return await finder(context, id) if finder else None


async def _access_token(context: Context, id: str) -> Any:
    return await scope.own_token(context.viewer, number_of("AccessToken", id))


async def _api_user(context: Context, id: str) -> Any:
    found = await scope.api_user(context.viewer, number_of("ApiUser", id))
    context.viewer.must("organization.read", found.organization.id)
    return found


async def _audit_entry(context: Context, id: str) -> Any:
    found = await scope.audit_entry(context.viewer, number_of("AuditEntry", id))
    context.viewer.must("audit.read", found.organization_id)  # type: ignore[attr-defined]  # a Tortoise column
    return found


async def _device_event(context: Context, id: str) -> Any:
    return await following.event(context.viewer, number_of("DeviceEvent", id))


async def _invitation(context: Context, id: str) -> Any:
    number = number_of("Invitation", id)
    if context.viewer.user and (mine := await scope.or_null(scope.own_invitation(context.viewer, number))):
        return mine
    found = await scope.invitation(context.viewer, number)
    context.viewer.must("organization.read", found.organization.id)
    return found


async def _invoice(context: Context, id: str) -> Any:
    return await bills.invoice(number_of("Invoice", id), by=context.viewer)


async def _member(context: Context, id: str) -> Any:
    found = await scope.member(context.viewer, number_of("Member", id))
    mine = context.viewer.members.get(found.organization.id)
    context.viewer.must("organization.know" if mine and mine.id == found.id else "organization.read", found.organization.id)
    return found


async def _organization(context: Context, id: str) -> Any:
    found = await scope.organization_by_id(context.viewer, number_of("Organization", id))
    context.viewer.must_be_allowed("organization.know", found.id)
    return found


async def _user(context: Context, id: str) -> Any:
    return await scope.user(context.viewer, number_of("User", id))


# Every type of the schema with a global id, in alphabetical order; tests/resolvers/test_node.py holds it to the schema.
FINDERS: dict[str, Finder] = {
    "AccessToken": _access_token,
    "ApiUser": _api_user,
    "AuditEntry": _audit_entry,
    "Customer": resolvers.customer.by_id,
    "Device": resolvers.device.by_id,
    "DeviceEvent": _device_event,
    "DeviceGroup": resolvers.group.by_id,
    "Firmware": resolvers.firmware.by_id,
    "Import": resolvers.importing.by_id,
    "Invitation": _invitation,
    "Invoice": _invoice,
    "Member": _member,
    "Organization": _organization,
    "Product": resolvers.product.by_id,
    "Rollout": resolvers.rollout.by_id,
    "SigningKey": resolvers.signing.by_id,
    "Update": resolvers.firmware.update_by_id,
    "User": _user,
}
