"""Where a second person is demanded: by a product, or by a group for the devices in it. Releases wait there, and locks of more than a few.

The demands add up: what is inside a group is under that group's and under all those above it, and no group takes one away.
Source: features, C12; ADR 13.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from auth.spelling import require_text
from auth.viewer import Viewer
from errors import Forbidden, InvalidInput
from fleet import alarming
from fleet.auditing import Json
from fleet.house import House
from models.device import DeviceGroup
from models.organization import Organization
from models.product import Product
from models.sql import rows

APPROVAL_REQUIRED = "APPROVAL_REQUIRED"  # the reason of a refusal
REASON_MAX = 500  # characters
LOCKS_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Glass:
    """An owner's word that this cannot wait for a second person, and why."""

    because: str
    house: House


async def is_demanded(product: Product, group_id: int | None) -> bool:
    """Whether a release to the product, or to this group of it, would reach devices for which a second person is demanded.

    Those are the whole product's where that demands it, and those of every group that does: one above, one inside, or one that
    shares a device with it.
    """
    statement, values = (_ANYWHERE, [product.id]) if group_id is None else (_FOR_GROUP, [product.id, group_id])
    return bool(await rows(statement, values))


async def refuse_alone(product: Product, group_id: int | None) -> None:
    """With the product's row held. Raises Forbidden (reason APPROVAL_REQUIRED)."""
    if await is_demanded(product, group_id):
        raise Forbidden(
            "Releases there need a second person: start a rollout (one stage of 100 percent is a release at once) and have somebody"
            " else approve it.",
            reason=APPROVAL_REQUIRED,
        )


async def must_be_few(product: Product, version: int, locked: Mapping[str, int | None], *, glass: Glass | None, by: Viewer) -> str | None:
    """Refuse to lock these devices, locked to what they are now, to the version, unless the demands leave room for so many.

    With the firmware's row held: whoever else locks devices to it waits, and what is counted stays so. The answer is why an owner broke
    the glass for it, and has been told to every owner and admin; None where nobody had to.
    Raises Forbidden (reason APPROVAL_REQUIRED), InvalidInput for a glass that need not be broken.
    """
    added = [device_id for device_id, before in locked.items() if before != version]
    if not added or not await is_demanded(product, None) or not await rows(_TOO_MANY, [product.id, version, added]):
        if glass is not None:
            raise InvalidInput("This lock needs nobody else: leave breakGlass out.", path=("breakGlass",))
        return None
    if glass is None:
        raise Forbidden(
            "So many devices of the product, or of a group, are not locked to one version on one person's word: start a rollout and have"
            " somebody else approve it.",
            reason=APPROVAL_REQUIRED,
        )
    organization: Organization = product.organization
    by.must("release.waive", organization.id, product.id)
    because = require_text(glass.because, path=("breakGlass",), max_length=REASON_MAX)
    await alarming.tell(organization, alarming.locked_alone(by.actor, product, version, len(added), because), sealer=glass.house.sealer)
    return because


async def demand(of: Product | DeviceGroup, changes: Mapping[str, Json], *, house: House, by: Viewer) -> None:
    """Let what a product or a group demands become this: more by whoever may change it, less by an owner, and no owner or admin unaware.

    In the transaction that changes it, with the product's row held. Raises Forbidden; InvalidInput for a number that cannot be.
    """
    locks = changes.get("locks_without_approval")
    if isinstance(locks, int) and not 0 <= locks <= LOCKS_MAX:
        raise InvalidInput(f"locksWithoutApproval is from 0 to {LOCKS_MAX}.", path=("locksWithoutApproval",))
    is_over = changes.get("releases_need_approval") is False
    if is_over or (of.releases_need_approval and isinstance(locks, int) and locks > of.locks_without_approval):
        await demand_less(of, is_over=is_over, house=house, by=by)


async def demand_less(of: Product | DeviceGroup, *, is_over: bool, house: House, by: Viewer) -> None:
    """Raises Forbidden for anybody but an owner; tells every owner and admin."""
    product: Product = of if isinstance(of, Product) else of.product
    organization: Organization = product.organization
    by.must("release.waive", organization.id, product.id)
    group = of.path if isinstance(of, DeviceGroup) else None
    await alarming.tell(organization, alarming.approval_waived(by.actor, product, group, is_over=is_over), sealer=house.sealer)


_ANYWHERE = """
    SELECT 1 AS one FROM product WHERE id = $1 AND releases_need_approval
     UNION ALL SELECT 1 FROM device_group WHERE product_id = $1 AND releases_need_approval LIMIT 1"""
_FOR_GROUP = """
    SELECT 1 AS one FROM product WHERE id = $1 AND releases_need_approval
     UNION ALL
    SELECT 1 FROM device_group AS demanding
     WHERE demanding.product_id = $1 AND demanding.releases_need_approval
       AND (EXISTS (SELECT 1 FROM group_above AS way WHERE way.group_id = $2 AND way.above_id = demanding.id)
            OR EXISTS (SELECT 1 FROM group_above AS way WHERE way.group_id = demanding.id AND way.above_id = $2)
            OR EXISTS (SELECT 1 FROM group_above AS ours JOIN group_membership AS here ON here.group_id = ours.group_id
                         JOIN group_membership AS there ON there.device_id = here.device_id
                         JOIN group_above AS theirs ON theirs.group_id = there.group_id
                        WHERE ours.above_id = $2 AND theirs.above_id = demanding.id))
     LIMIT 1"""
# Counted with those that are locked to the version already: ten calls of ten are a hundred.
_TOO_MANY = """
    WITH locked (device_id, added) AS (
        SELECT device_id, 0 FROM device WHERE product_id = $1 AND desired_firmware_version = $2
         UNION ALL SELECT device_id, 1 FROM device WHERE device_id = ANY($3))
    SELECT id FROM product WHERE id = $1 AND releases_need_approval
       AND (SELECT COUNT(*) FROM locked) > locks_without_approval
     UNION ALL
    SELECT demanding.id
      FROM locked
      JOIN group_membership AS membership ON membership.device_id = locked.device_id
      JOIN group_above AS way ON way.group_id = membership.group_id
      JOIN device_group AS demanding ON demanding.id = way.above_id AND demanding.releases_need_approval
     GROUP BY demanding.id, demanding.locks_without_approval
    HAVING COUNT(DISTINCT locked.device_id) > demanding.locks_without_approval AND MAX(locked.added) = 1"""
