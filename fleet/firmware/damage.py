"""Damaged firmware: stored bytes that are not what was uploaded any more. It is stopped everywhere at once, and heals by the same bytes."""

import logging
from datetime import UTC, datetime

from auth.viewer import Viewer
from blobs import Incoming
from errors import BinaryInvalid, BinaryMismatch
from fleet import alarming
from fleet.auditing import record
from fleet.firmware.offering import GATEWAY, cancel_orders, cancel_updates_to
from fleet.house import House
from fleet.rollouts import staging
from fleet.telling import order
from models.firmware import Firmware
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction
from realtime import log

logger = logging.getLogger(__name__)

DAMAGED = "The stored file of version {} is damaged, so nobody is offered it: upload the same file under the same version again."


async def is_sound(firmware: Firmware, house: House) -> bool:
    """Whether the stored bytes may be served: asked wherever serving begins. Bytes that are not what they were stop the firmware.

    Source: reliability, rule 1 of "OTA safety rules".
    """
    if firmware.damaged_at is not None:
        return False
    if await house.blobs.is_sound(firmware.sha256):
        return True
    await damaged(firmware, house=house)
    return False


async def damaged(firmware: Firmware, *, house: House) -> None:
    """Stop it: releases are withdrawn, rollouts halted, updates canceled; the audit says so, and a mail, once however many see it at once.

    Locks stay, and bring their devices nothing until the file is whole again.
    """
    logger.error("The stored bytes of firmware %s are damaged or gone; it is offered to nobody.", firmware.id)
    now = datetime.now(UTC)
    async with transaction():
        product = await Product.filter(id=firmware.product_id).select_for_update().get()  # type: ignore[attr-defined]  # a Tortoise column
        if not await Firmware.filter(id=firmware.id, damaged_at=None).update(damaged_at=now):
            return
        stopped = await _stop_releases(product, firmware)
        halted = await staging.halt_for(firmware, "The stored file is damaged.", now)
        heard_of = await cancel_updates_to(firmware.id, now)
        await _record(GATEWAY, "firmware.damaged", product, firmware, **stopped)
        letter = alarming.firmware_damaged(product, firmware.version, halted=bool(halted))
        await alarming.tell(await product.organization, letter, sealer=house.sealer)
        await log.append(*cancel_orders(product.number, heard_of, now), *halted)
    firmware.damaged_at = now


async def require_sound(firmware: Firmware, *, field: str) -> None:
    """For a verb that is about to give it to devices, in its transaction. Raises BinaryInvalid (DAMAGED)."""
    for row in await Firmware.filter(id=firmware.id):
        refuse_damaged(row, field=field)


def refuse_damaged(firmware: Firmware, *, field: str) -> None:
    """The same of a row that was read in the verb's own transaction."""
    if firmware.damaged_at is not None:
        raise BinaryInvalid(DAMAGED.format(firmware.version), reason="DAMAGED", path=(field,))


# ── healing ──
async def waiting_for_its_file(product: Product, version: int | None) -> Firmware | None:
    """The damaged firmware that an upload of this version can heal."""
    return await Firmware.filter(product_id=product.id, version=version).exclude(damaged_at=None).first()


async def heal(firmware: Firmware, incoming: Incoming, *, house: House, by: Viewer) -> Firmware:
    """Take the same bytes again. Title and description stay; what was released has to be released anew.

    Raises BinaryMismatch for any other bytes.
    """
    if incoming.sha256 != firmware.sha256:
        raise BinaryMismatch(
            f"Version {firmware.version} is damaged here and is healed only by the file it was: SHA-256 {firmware.sha256}; "
            f"this one has {incoming.sha256}.",
            reason="DIGEST_MISMATCH",
        )
    await house.blobs.keep(incoming)
    await _healed(firmware, by)
    return firmware


async def look_again(house: House) -> int:
    """Find damaged firmware whose bytes an operator has brought back; how many. For a sweep."""
    healed = 0
    for firmware in await Firmware.exclude(damaged_at=None):
        if await house.blobs.is_sound(firmware.sha256):
            await _healed(firmware, GATEWAY)
            healed += 1
    return healed


async def _healed(firmware: Firmware, by: Viewer) -> None:
    async with transaction():
        product = await Product.filter(id=firmware.product_id).select_for_update().get()  # type: ignore[attr-defined]  # a Tortoise column
        if not await Firmware.filter(id=firmware.id).exclude(damaged_at=None).update(damaged_at=None):
            return
        await _record(by, "firmware.healed", product, firmware)
        await log.append(order(None, product.number, "release", datetime.now(UTC)))  # devices locked to it have waited
    firmware.damaged_at = None


async def _stop_releases(product: Product, firmware: Firmware) -> dict[str, bool | list[str]]:
    """Where it was released, for the audit; the product's row is held."""
    groups = await rows(
        "SELECT path FROM device_group JOIN group_release ON group_id = device_group.id WHERE firmware_id = $1 ORDER BY path", [firmware.id]
    )
    await execute("DELETE FROM group_release WHERE firmware_id = $1", [firmware.id])
    of_product = await execute("DELETE FROM product_release WHERE firmware_id = $1", [firmware.id])
    if groups or of_product:
        await execute("UPDATE product SET release_sequence = release_sequence + 1 WHERE id = $1", [product.id])
    return {"withdrawn_from_product": bool(of_product), "withdrawn_from_groups": [row["path"] for row in groups]}


async def _record(by: Viewer, action: str, product: Product, firmware: Firmware, **detail: bool | list[str]) -> None:
    subject, organization_id = f"firmware:{product.number}/{firmware.version}", product.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    await record(by, action, subject, organization_id=organization_id, sha256=firmware.sha256, **detail)
