"""Doors of plans: what a release would do, before it does it."""

from errors import BadRequest
from fleet import scope
from fleet.firmware import planning
from fleet.firmware.planning import ReleasePlan
from models.device import Device
from resolvers.context import Context
from resolvers.paging import Page, Slice, decode_cursor, encode_cursor, shape


async def plan_release(context: Context, *, product_id: int, version: int, group: str | None) -> ReleasePlan:
    firmware = await scope.firmware(context.viewer, product_id, version)
    team = await scope.group(context.viewer, firmware.product, group) if group is not None else None
    return await planning.plan_release(firmware, group=team, house=context.house, by=context.viewer)


async def devices(plan: ReleasePlan, context: Context, first: int | None, after: str | None) -> Page[Device]:
    release, part = plan.release, Slice.of(first, after)
    name = f"plan:{release.product.id}:{release.firmware.version}:{release.group.id if release.group is not None else ''}"
    ids = await release.devices(part.size + 1, _device_id(name, part.cursor))
    found = [device for each in ids if (device := await context.loaders.devices.load(each)) is not None]

    async def count() -> int:
        return plan.will_update

    return shape(found, part, lambda device: encode_cursor(name, [device.device_id]), count)


def _device_id(name: str, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    keys = decode_cursor(name, cursor)
    if len(keys) != 1 or not isinstance(keys[0], str):
        raise BadRequest("This cursor belongs to another list.", path=("after",))
    return scope.device_key(keys[0])
