"""The door of global ids: each kind is found the way its own door finds it, so nothing is reachable here alone."""

from collections.abc import Awaitable, Callable
from typing import Any

import resolvers.customer
import resolvers.device
import resolvers.group
import resolvers.importing
import resolvers.product
from errors import BadRequest, NotFound
from fleet import scope
from models.global_ids import number_of, read_global_id
from resolvers.context import Context

NODES_MAX = 100


async def _member(context: Context, id: str) -> Any:
    return await scope.member(context.viewer, number_of("Member", id))


async def _invitation(context: Context, id: str) -> Any:
    return await scope.invitation(context.viewer, number_of("Invitation", id))


FINDERS: dict[str, Callable[[Context, str], Awaitable[Any]]] = {
    "Member": _member,
    "Invitation": _invitation,
    "Product": resolvers.product.by_id,
    "DeviceGroup": resolvers.group.by_id,
    "Customer": resolvers.customer.by_id,
    "Device": resolvers.device.by_id,
    "Import": resolvers.importing.by_id,
}


async def node(context: Context, id: str) -> Any:
    try:
        kind, _ = read_global_id(id)
        return await FINDERS[kind](context, id)
    except (KeyError, NotFound):
        return None


async def nodes(context: Context, ids: list[str]) -> list[Any]:
    if len(ids) > NODES_MAX:
        raise BadRequest(f"At most {NODES_MAX} ids at once.")
    return [await node(context, id) for id in ids]
