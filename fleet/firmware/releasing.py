"""Releasing: which version devices of a product, or of a group, should run, and the proof that has to come first."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from tortoise.exceptions import IntegrityError

from auth.viewer import INSIDE_GROUPS, Viewer
from billing.access import require_active
from errors import FirmwareNotProven, Forbidden, NotFound
from fleet.auditing import record
from fleet.devices.counting import kinds
from fleet.firmware import approving, planning
from fleet.firmware.damage import require_sound
from fleet.house import House
from fleet.telling import order
from models.device import DeviceGroup, DeviceState
from models.firmware import Firmware, GroupRelease, ProductRelease
from models.organization import Organization
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction
from realtime import log

# The gate: a device of the product that authenticated and reported the version itself. Test, locked, development and offline ones count.
# The proving device's row is held to the commit: whoever removes or moves it comes before, and is seen, or after the release.
_PROOF = "SELECT device_id FROM device WHERE product_id = $1 AND state = 'ACTIVE' AND firmware_version = $2 AND proven LIMIT 1"
_RELEASE = """
    INSERT INTO {table} ({key}, firmware_id, released_at, immediate, forces)
    WITH proof AS ({proof} FOR NO KEY UPDATE)
    SELECT $3, $4, $5, $6, $7 FROM proof WHERE TRUE
    ON CONFLICT ({key}) DO UPDATE
       SET firmware_id = excluded.firmware_id, released_at = excluded.released_at, immediate = excluded.immediate,
           forces = excluded.forces"""
_TO_PRODUCT = _RELEASE.format(table="product_release", key="product_id", proof=_PROOF)
_TO_GROUP = _RELEASE.format(table="group_release", key="group_id", proof=_PROOF)

NOT_PROVEN = "No active device of the product runs version {} yet: lock and flash a test device, and wait until it reports the version."


@dataclass(frozen=True, slots=True)
class How:
    """To whom a version is released, and how: at once, past devices that put updates off, only if a plan still holds."""

    group: DeviceGroup | None = None  # None: the whole product
    immediate: bool = False
    forces: bool = False
    plan_token: str | None = None

    @property
    def group_id(self) -> int | None:
        return self.group.id if self.group is not None else None


async def release_firmware(firmware: Firmware, how: How, *, house: House, by: Viewer) -> Firmware:
    """Make this the version that devices of the product, or of one group, should run; an older one takes them back to it.

    Each is offered it at its next hello; with `immediate`, those online are offered it now; with `forces` also those that put updates off.
    Raises FirmwareNotProven until an active device of the product runs it; PlanStale if a plan is given and no longer holds; Forbidden
    (reason APPROVAL_REQUIRED) where a second person is demanded.
    Source: guide, "Releasing firmware".
    """
    product: Product = firmware.product
    organization: Organization = product.organization
    by.must("firmware.release", organization.id, product.id)
    _require_whole(product, how.group, by)
    require_active(organization)
    now = datetime.now(UTC)
    try:
        async with transaction():
            sequence = await next_sequence(product)
            await approving.refuse_alone(product, how.group_id)
            await require_sound(firmware, field="version")
            if how.plan_token is not None:
                await planning.must_be_fresh(how.plan_token, firmware, group=how.group, house=house, by=by)
            before = await released_version(product, how.group_id)
            if not await put_in_force(firmware, product, how.group_id, now, immediate=how.immediate, forces=how.forces):
                raise FirmwareNotProven(NOT_PROVEN.format(firmware.version), path=("version",))
            await never_delete(firmware, now)
            await record(
                by,
                "firmware.released",
                f"firmware:{product.number}/{firmware.version}",
                organization_id=organization.id,
                group=how.group.path if how.group is not None else None,
                immediate=how.immediate,
                forces=how.forces,
                before=before,
                downgrade=before is not None and before > firmware.version,
                sequence=sequence,
            )
            if how.immediate:
                await log.append(order(None, product.number, "release", now))
    except IntegrityError:
        raise NotFound("The firmware or the group was deleted just now.", path=("version",)) from None
    return firmware


async def withdraw_release(product: Product, *, group: DeviceGroup | None, by: Viewer) -> Product:
    """Release nothing there any more. Nobody is moved by it: at its next hello the next rule that fits decides for a device.

    Raises NotFound where nothing is released.
    """
    organization: Organization = product.organization
    by.must("firmware.release", organization.id, product.id)
    _require_whole(product, group, by)
    require_active(organization)
    async with transaction():
        sequence = await next_sequence(product)
        before = await released_version(product, group.id if group is not None else None)
        statement, key = "DELETE FROM product_release WHERE product_id = $1", product.id
        if group is not None:
            statement, key = "DELETE FROM group_release WHERE group_id = $1", group.id
        if not await execute(statement, [key]):
            raise NotFound("Nothing is released there.", path=("productId",) if group is None else ("group",))
        path = group.path if group is not None else None
        subject = f"product:{product.number}"
        await record(by, "release.withdrawn", subject, organization_id=organization.id, group=path, before=before, sequence=sequence)
    return product


def _require_whole(product: Product, group: DeviceGroup | None, by: Viewer) -> None:
    """Raises Forbidden for the whole product to whoever is held inside groups of it; a group they found is one of those."""
    if group is None and by.walls_in(product.id) is not None:
        raise Forbidden("You are held inside groups of the product: name one of them.", reason=INSIDE_GROUPS, path=("group",))


# ── what a rollout does too, in its own transaction ──
async def next_sequence(product: Product) -> int:
    """Releases of a product come one after the other from here to the commit; the last one stays."""
    found = await rows("UPDATE product SET release_sequence = release_sequence + 1 WHERE id = $1 RETURNING release_sequence", [product.id])
    return int(found[0]["release_sequence"])


async def is_proven(firmware: Firmware, product: Product) -> bool:
    """Whether the gate is open; the device that proves it is held to the commit of the caller's transaction."""
    return bool(await rows(f"{_PROOF} FOR NO KEY UPDATE", [product.id, firmware.version]))


async def put_in_force(
    firmware: Firmware, product: Product, group_id: int | None, now: datetime, *, immediate: bool = False, forces: bool = False
) -> bool:
    """Let the product's, or one group's, devices run this from now on; False while the gate is closed. In the caller's transaction."""
    statement, key = (_TO_PRODUCT, product.id) if group_id is None else (_TO_GROUP, group_id)
    return bool(await execute(statement, [product.id, firmware.version, key, firmware.id, now, immediate, forces]))


async def never_delete(firmware: Firmware, now: datetime) -> None:
    """It was released, in stages or at once: from now on it stays."""
    if await Firmware.filter(id=firmware.id, released_at=None).update(released_at=now):
        firmware.released_at = now


async def released_version(product: Product, group_id: int | None) -> int | None:
    releases = ProductRelease.filter(product_id=product.id) if group_id is None else GroupRelease.filter(group_id=group_id)
    release = await releases.select_related("firmware").first()
    return release.firmware.version if release is not None else None


# ── reading ──
async def product_releases(product_ids: Collection[int]) -> dict[int, int]:
    """The firmware released to each of these products (by their keys); one with no release is left out."""
    found = await rows("SELECT product_id, firmware_id FROM product_release WHERE product_id = ANY($1)", [list(product_ids)])
    return {row["product_id"]: row["firmware_id"] for row in found}


@dataclass(frozen=True, slots=True)
class Running:
    """How many devices report a version now, and how many of them prove it to the gate."""

    devices: int = 0
    proving: int = 0


async def running(of: Collection[tuple[int, int]]) -> dict[tuple[int, int], Running]:
    """By product (its key, not its number) and version."""
    found: dict[tuple[int, int], Running] = {}
    for kind in await kinds({product for product, _ in of}):
        if kind.proven and kind.firmware_version is not None:
            key, proving = (kind.product_id, kind.firmware_version), kind.devices if kind.state == DeviceState.ACTIVE else 0
            before = found.get(key, Running())
            found[key] = Running(before.devices + kind.devices, before.proving + proving)
    return found


async def running_inside(product_id: int, version: int, groups: Collection[int]) -> int:
    """How many devices in these groups of a product (its key, not its number) report the version now."""
    found = await rows(
        """SELECT count(*) AS devices FROM device WHERE product_id = $1 AND firmware_version = $2 AND proven
              AND EXISTS (SELECT 1 FROM group_membership AS m WHERE m.device_id = device.device_id AND m.group_id = ANY($3))""",
        [product_id, version, list(groups)],
    )
    return int(found[0]["devices"])


@dataclass(frozen=True, slots=True)
class Released:
    """Where a version is released now."""

    to_product: bool = False
    groups: tuple[DeviceGroup, ...] = ()


async def released(firmware_ids: Collection[int]) -> dict[int, Released]:
    """By firmware; groups by their paths."""
    to_product = {row["firmware_id"] for row in await rows(_PRODUCTS_RELEASING, [list(firmware_ids)])}
    to_groups = {(row["firmware_id"], row["group_id"]) for row in await rows(_GROUPS_RELEASING, [list(firmware_ids)])}
    groups = await DeviceGroup.filter(id__in=[group for _, group in to_groups]).order_by("path") if to_groups else []
    return {
        firmware: Released(firmware in to_product, tuple(group for group in groups if (firmware, group.id) in to_groups))
        for firmware in firmware_ids
    }


_PRODUCTS_RELEASING = "SELECT firmware_id FROM product_release WHERE firmware_id = ANY($1)"
_GROUPS_RELEASING = "SELECT firmware_id, group_id FROM group_release WHERE firmware_id = ANY($1)"
