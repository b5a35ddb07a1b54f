"""Groups: named, nested sets of a product's devices, and what is in them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from tortoise.expressions import Q, Subquery
from tortoise.queryset import QuerySet

from auth.viewer import INSIDE_GROUPS, Viewer
from billing.access import require_active
from errors import AlreadyExists, Forbidden, InvalidInput, NotFound
from fleet.auditing import Json, differing, record
from fleet.firmware import approving
from fleet.house import House
from fleet.products.defining import lock
from fleet.refusing import Rejected, require_few
from fleet.seeing import sight
from models.device import Device, DeviceGroup, GroupAbove, GroupGrant, GroupMembership
from models.firmware import GroupRelease
from models.organization import Organization
from models.product import Product
from models.sql import execute, is_sqlite, rows
from models.transaction import transaction

DEPTH_MAX = 8
PIECE = 20_000  # memberships in one statement
_NAME = re.compile(r"[a-z0-9_-]{1,64}\Z")


async def create_group(product: Product, name: str, *, parent: DeviceGroup | None = None, by: Viewer) -> DeviceGroup:
    """A new, empty group, at the top or inside `parent`.

    Raises InvalidInput for another name than a-z 0-9 - _, or a ninth level; AlreadyExists beside one of the same name.
    """
    organization: Organization = product.organization
    by.must("group.write", organization.id, product.id)
    require_active(organization)
    _require_name(name)
    _require_inside(parent, product, by)
    async with transaction():
        await lock(product)
        above = await _held(parent, field="parent") if parent else None
        group = DeviceGroup(product=product, parent=above, name=name, path=_path(above, name), created_at=datetime.now(UTC))
        await _require_free(group.path, product)
        await group.save()
        await record(by, "group.created", subject(group), organization_id=organization.id, path=group.path)
    return group


async def rename_group(group: DeviceGroup, name: str, *, by: Viewer) -> DeviceGroup:
    """Another name; the paths of all groups inside follow. Raises like create_group."""
    product: Product = group.product
    organization: Organization = product.organization
    by.must("group.write", organization.id, product.id)
    require_active(organization)
    _require_name(name)
    _require_below(group, by)
    async with transaction():
        await lock(product)
        await _held(group)
        before, path = group.path, "/".join([*group.path.split("/")[:-1], name])
        if path != before:
            await _require_free(path, product)
            await _move(group, before, path)
            group.name, group.path = name, path
            await group.save(update_fields=["name"])
            await record(by, "group.renamed", subject(group), organization_id=organization.id, before=before, after=path)
    return group


async def update_group(
    group: DeviceGroup, *, releases_need_approval: bool | None = None, locks_without_approval: int | None = None, house: House, by: Viewer
) -> DeviceGroup:
    """Change for what the group demands a second person. What is the same already is no change and leaves no trace.

    Less is demanded by an owner alone, and every owner and admin is told. Raises Forbidden; for whoever is held inside groups, too: a
    release to the whole product reaches this one.
    """
    product: Product = group.product
    organization: Organization = product.organization
    by.must("group.write", organization.id, product.id)
    if by.walls_in(product.id) is not None:
        raise Forbidden("You are held inside groups of the product, and this is about releases to the whole of it.", reason=INSIDE_GROUPS)
    require_active(organization)
    wanted: dict[str, Json] = {"releases_need_approval": releases_need_approval, "locks_without_approval": locks_without_approval}
    async with transaction():
        await lock(product)
        await _held(group)
        before, changes = differing(group, {key: value for key, value in wanted.items() if value is not None})
        await approving.demand(group, changes, house=house, by=by)
        if changes:
            group.update_from_dict(changes)
            await group.save(update_fields=list(changes))
            await record(
                by, "group.updated", subject(group), organization_id=organization.id, path=group.path, before=before, after=changes
            )
    return group


async def delete_group(group: DeviceGroup, *, house: House, by: Viewer) -> None:
    """End a group, what was released to it, and what customers saw through it; its devices stay in the product.

    One that demands a second person is deleted by an owner alone, and every owner and admin is told.
    Raises Forbidden; InvalidInput while groups are inside it, or a member or an API user is held inside it: they would see all of the
    product.
    """
    product: Product = group.product
    organization: Organization = product.organization
    by.must("group.write", organization.id, product.id)
    require_active(organization)
    async with transaction():
        await lock(product)
        await _held(group)
        if await DeviceGroup.filter(parent_id=group.id).exists():
            raise InvalidInput("There are groups inside this one: delete those first.", path=("id",))
        await _require_nobody_held(group)
        if group.releases_need_approval:
            await approving.demand_less(group, is_over=True, house=house, by=by)
        devices = await GroupMembership.filter(group_id=group.id).count()
        await _empty(group)
        await DeviceGroup.filter(id=group.id).delete()
        await record(by, "group.deleted", subject(group), organization_id=organization.id, path=group.path, devices=devices)


async def add_devices(group: DeviceGroup, device_ids: Sequence[str], *, by: Viewer) -> tuple[list[str], list[Rejected]]:
    """Put devices of the product into the group; those in it already stay there.

    The ids that are in it now come first; what is no device of the product comes second.
    """
    organization = _require_may_write(group, device_ids, by)
    async with transaction():
        await lock(group.product)
        await _held(group)
        known, rejected = await _told_apart(group, device_ids, by)
        added = await rows(
            """INSERT INTO group_membership (group_id, device_id) SELECT $1, device_id FROM device WHERE device_id = ANY($2)
               ON CONFLICT (group_id, device_id) DO NOTHING RETURNING device_id""",
            [group.id, known],
        )
        if added:
            devices = sorted(row["device_id"] for row in added)
            await record(by, "group.devices_added", subject(group), organization_id=organization.id, path=group.path, devices=devices)
    return known, rejected


async def remove_devices(group: DeviceGroup, device_ids: Sequence[str], *, by: Viewer) -> tuple[list[str], list[Rejected]]:
    """Take devices out of this group (not out of groups inside it); those that are not in it are no error.

    The ids that are not in it now come first; what is no device of the product comes second.
    """
    organization = _require_may_write(group, device_ids, by)
    async with transaction():
        await lock(group.product)
        await _held(group)
        known, rejected = await _told_apart(group, device_ids, by)
        removed = await rows(
            "DELETE FROM group_membership WHERE group_id = $1 AND device_id = ANY($2) RETURNING device_id", [group.id, known]
        )
        if removed:
            devices = sorted(row["device_id"] for row in removed)
            await record(by, "group.devices_removed", subject(group), organization_id=organization.id, path=group.path, devices=devices)
    return known, rejected


def subject(group: DeviceGroup) -> str:
    """How the audit names it."""
    return f"group:{group.product.number}/{group.path}"


def devices_in(group: DeviceGroup) -> QuerySet[Device]:
    """The devices of the group and of all groups inside it, each once, in whatever state they are."""
    inside = Subquery(GroupAbove.filter(above_id=group.id).values("group_id"))
    return Device.filter(device_id__in=Subquery(GroupMembership.filter(group_id__in=inside).values("device_id")))


async def at_or_below(group: DeviceGroup) -> list[int]:
    """The keys of the group and of all groups inside it."""
    return [row["group_id"] for row in await rows("SELECT group_id FROM group_above WHERE above_id = $1", [group.id])]


async def page_of_devices(group: DeviceGroup, *, beyond: str, count: int) -> QuerySet[Device]:
    """The first `count` devices of devices_in(group) behind an id, by id: of each group below as many are read, however many it holds."""
    return Device.filter(device_id__in=await ids_inside(group.id, beyond=beyond, count=count))


async def ids_inside(group_id: int, *, beyond: str, count: int) -> list[str]:
    """The first `count` ids behind `beyond` of devices in the group or in one inside it."""
    return [row["device_id"] for row in await rows(_PAGE_OF_SQLITE if is_sqlite() else _PAGE, [group_id, beyond, count])]


async def groups_of(device_ids: list[str]) -> dict[str, list[DeviceGroup]]:
    """The groups each of these devices was put into, by path; a device in none is left out."""
    found: dict[str, list[DeviceGroup]] = {}
    for membership in await GroupMembership.filter(device_id__in=device_ids).select_related("group").order_by("group__path"):
        found.setdefault(membership.device_id, []).append(membership.group)  # type: ignore[attr-defined]  # a Tortoise column
    return found


async def groups_inside(parent_ids: list[int]) -> dict[int, list[DeviceGroup]]:
    """The groups right inside each of these, by name; a group without any is left out."""
    found: dict[int, list[DeviceGroup]] = {}
    for group in await DeviceGroup.filter(parent_id__in=parent_ids).order_by("name"):
        found.setdefault(group.parent_id, []).append(group)  # type: ignore[attr-defined]  # a Tortoise column
    return found


async def released_firmware_ids(group_ids: list[int]) -> dict[int, int]:
    """The firmware released to each of these groups itself; one with no release of its own is left out."""
    return dict(await GroupRelease.filter(group_id__in=group_ids).values_list("group_id", "firmware_id"))


_PAGE = """
    SELECT DISTINCT found.device_id
      FROM group_above AS inside
      CROSS JOIN LATERAL (SELECT device_id FROM group_membership
                           WHERE group_id = inside.group_id AND device_id > $2 ORDER BY device_id LIMIT $3) AS found
     WHERE inside.above_id = $1 ORDER BY found.device_id LIMIT $3"""
# SQLite has no LATERAL: up to the device that is the last one wanted of its group.
_PAGE_OF_SQLITE = """
    SELECT DISTINCT membership.device_id
      FROM group_above AS inside JOIN group_membership AS membership ON membership.group_id = inside.group_id
     WHERE inside.above_id = $1 AND membership.device_id > $2
       AND membership.device_id <= COALESCE((SELECT device_id FROM group_membership AS last
                                              WHERE last.group_id = inside.group_id AND last.device_id > $2
                                              ORDER BY last.device_id LIMIT 1 OFFSET $3), 'g')
     ORDER BY membership.device_id LIMIT $3"""


def _require_may_write(group: DeviceGroup, device_ids: Sequence[str], by: Viewer) -> Organization:
    product: Product = group.product
    organization: Organization = product.organization
    by.must("group.write", organization.id, product.id)
    require_active(organization)
    require_few(device_ids)
    return organization


def _require_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidInput("A group's name has 1 to 64 characters of a-z, 0-9, - and _.", path=("name",))


def _require_inside(parent: DeviceGroup | None, product: Product, by: Viewer) -> None:
    if parent is None and by.walls_in(product.id) is not None:
        raise Forbidden("You are held inside groups of the product: name a parent in one of them.", reason=INSIDE_GROUPS, path=("parent",))


def _require_below(group: DeviceGroup, by: Viewer) -> None:
    """The groups beside the one that was granted are none of theirs, nor is whether one of those bears a name."""
    walls = by.walls_in(_product_id(group))
    if walls is not None and group.parent_id not in walls.groups:  # type: ignore[attr-defined]  # a Tortoise column
        raise Forbidden("This group is where your part of the product begins: somebody above renames it.", reason=INSIDE_GROUPS)


async def _empty(group: DeviceGroup) -> None:
    """In pieces: no statement may take more than five seconds, and each device is looked up in the groups above."""
    sql = "DELETE FROM group_membership WHERE id IN (SELECT id FROM group_membership WHERE group_id = $1 LIMIT $2)"
    while await execute(sql, [group.id, PIECE]) == PIECE:
        pass


async def _require_nobody_held(group: DeviceGroup) -> None:
    if await GroupGrant.filter(Q(member_id__not_isnull=True) | Q(api_user_id__not_isnull=True), group_id=group.id).exists():
        raise InvalidInput("Somebody of the team is held inside this group: revoke that first.", path=("id",))


def _path(parent: DeviceGroup | None, name: str) -> str:
    path = f"{parent.path}/{name}" if parent else name
    if path.count("/") >= DEPTH_MAX:
        raise InvalidInput(f"Groups are nested at most {DEPTH_MAX} deep.", path=("parent",))
    return path


async def _held(group: DeviceGroup, *, field: str = "id") -> DeviceGroup:
    """The group as it is now that nobody else changes it. Raises NotFound when it is gone."""
    fresh = await DeviceGroup.filter(id=group.id).first()
    if fresh is None:
        raise NotFound("This group is gone already.", path=(field,))
    for column in ("name", "path", "releases_need_approval", "locks_without_approval"):
        setattr(group, column, getattr(fresh, column))
    return group


async def _require_free(path: str, product: Product) -> None:
    if await DeviceGroup.filter(product_id=product.id, path=path).exists():
        raise AlreadyExists(f"The product has a group {path}.", path=("name",))


async def _move(group: DeviceGroup, before: str, after: str) -> None:
    """The path of a group and of all inside it; only their beginning changes."""
    await execute(
        "UPDATE device_group SET path = $1 || substr(path, $2) WHERE id IN (SELECT group_id FROM group_above WHERE above_id = $3)",
        [after, len(before) + 1, group.id],
    )


async def _told_apart(group: DeviceGroup, device_ids: Sequence[str], by: Viewer) -> tuple[list[str], list[Rejected]]:
    """The product's devices among the ids, held until the commit so that none leaves the product meanwhile, and the rest.

    Whoever is held inside groups cannot pull a device in from outside them: it is one of the rest.
    """
    seen = await sight(by, _product_id(group)).visible(device_ids)
    found = await rows(
        "SELECT device_id FROM device WHERE device_id = ANY($1) AND product_id = $2 ORDER BY device_id FOR NO KEY UPDATE",
        [list(seen), _product_id(group)],
    )
    known = {row["device_id"] for row in found}
    refusal = NotFound("The product has no such device.", path=("deviceIds",))
    return sorted(known), [Rejected(device_id, refusal) for device_id in dict.fromkeys(device_ids) if device_id not in known]


def _product_id(group: DeviceGroup) -> int:
    return group.product_id  # type: ignore[attr-defined,no-any-return]  # a Tortoise column
