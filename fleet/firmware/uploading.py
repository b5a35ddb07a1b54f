"""Firmware files: taking one in through every rule of the gate, its title, and forgetting one nobody needs."""

import asyncio
import unicodedata
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tortoise.exceptions import IntegrityError

from auth.spelling import require_text, same_name_key
from auth.viewer import Viewer
from billing.access import require_active
from blobs import Incoming, Stored
from errors import FirmwareInUse, InvalidInput, NotFound, TitleTaken, VersionNotIncreasing
from firmware_formats.gate import Verdict, judge
from firmware_formats.signing import Statement
from fleet.auditing import Json, record
from fleet.firmware import damage
from fleet.firmware.trusting import require_signature
from fleet.house import House
from models.firmware import OPEN_UPDATE_STATES, Firmware, Update
from models.organization import Organization
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction

VERSION_MAX = 65534  # 65535 in a binary means: none
DESCRIPTION_MAX = 10_000
ORPHANS_AFTER_S = 86_400.0  # an upload that has not committed by then never will


@dataclass(frozen=True, slots=True)
class File:
    """What is sent: the bytes, what the file was called, and the maker's detached signature."""

    binary: AsyncIterable[bytes]
    name: str | None
    signature: str | None = None


async def upload_firmware(
    product: Product, version: int | None, *, title: str, description: str, file: File, house: House, by: Viewer
) -> Firmware:
    """Take a binary in; without `version` it is the one compiled into the file. The file of a damaged version heals it instead.

    Raises InvalidInput, VersionNotIncreasing, TitleTaken before a byte is read, and of two uploads at once for the later one;
    BinaryInvalid and BinaryMismatch with the gate's rule as reason. Nothing is kept of a refused one.
    Source: guide, "Preparing a binary" and "Uploading firmware"; firmware formats, "The upload gate".
    """
    organization: Organization = product.organization
    by.must("firmware.write", organization.id, product.id)
    require_active(organization)
    shown_title, told = require_text(title, path=("title",)), _description(description)
    if version is not None:
        _require_version(version)
    if version is None or await damage.waiting_for_its_file(product, version) is None:
        await _require_new(product, version, shown_title)
    # A bundle may be larger than its application: which of them it is, and the platform's own limit, is for the gate.
    async with house.blobs.receive(file.binary, house.settings.firmware_max_bytes) as incoming:
        verdict = await asyncio.to_thread(_judged, await incoming.content(), product, version, house.settings.firmware_max_bytes)
        signer = await require_signature(organization, file.signature, _about(product, verdict.version, incoming))
        if waiting := await damage.waiting_for_its_file(product, verdict.version):
            return await damage.heal(waiting, incoming, house=house, by=by)
        await _require_new(product, verdict.version, shown_title)
        stored = await house.blobs.keep(incoming)
    try:
        async with transaction():
            await _take_version(product, verdict.version)
            names = {"title": shown_title, "description": told, "file_name": _file_name(file.name), "signature": file.signature}
            firmware = await _create(product, verdict, stored, by, **names)
            seen: dict[str, Json] = {"sha256": stored.sha256, "signed_by": signer.name if signer else None, "read": verdict.facts}
            await _record(by, "firmware.uploaded", product, verdict.version, title=shown_title, **seen)
    except IntegrityError:
        raise _title_taken() from None
    return firmware


async def update_firmware(firmware: Firmware, *, title: str | None, description: str | None, by: Viewer) -> Firmware:
    """Another title or description; what is absent stays. The file itself never changes. Raises InvalidInput, TitleTaken."""
    product: Product = firmware.product
    by.must("firmware.write", product.organization.id, product.id)
    require_active(product.organization)
    before = {"title": firmware.title, "description": firmware.description}
    if title is not None:
        firmware.title = require_text(title, path=("title",))
        firmware.title_key = same_name_key(firmware.title)[:200]
    if description is not None:
        firmware.description = _description(description)
    after = {"title": firmware.title, "description": firmware.description}
    if after == before:
        return firmware
    try:
        async with transaction():
            await firmware.save(update_fields=["title", "title_key", "description"])
            await _record(by, "firmware.updated", product, firmware.version, before=before, after=after)
    except IntegrityError:
        raise _title_taken() from None
    return firmware


async def delete_firmware(firmware: Firmware, *, by: Viewer) -> None:
    """Forget a version; its number is never given again. What devices did with it goes too, the audit stays.

    Raises FirmwareInUse once it was released, while a device is locked to it, and while it is on its way to one.
    Source: vocabulary, "Firmware decision".
    """
    product: Product = firmware.product
    by.must("firmware.write", product.organization.id, product.id)
    require_active(product.organization)
    async with transaction():
        held = await Firmware.filter(id=firmware.id).select_for_update().first()  # releases and locks wait here, or we for them
        if held is None:
            raise NotFound("This firmware is deleted already.", path=("version",))
        if held.released_at is not None:
            raise FirmwareInUse("This version was released once: it stays, so that what devices run can be told.", path=("version",))
        await _require_no_lock(product, held.version)
        if await Update.filter(firmware_id=held.id, state__in=OPEN_UPDATE_STATES).exists():
            raise FirmwareInUse("This version is on its way to a device: unlock the device first.", path=("version",))
        await Update.filter(firmware_id=held.id).delete()
        await held.delete()
        await _record(by, "firmware.deleted", product, held.version, title=held.title, sha256=held.sha256)


async def sweep_blobs(house: House) -> int:
    """Remove files older than a day that no firmware names: refused uploads, deleted firmware. How many there were."""
    removed = await house.blobs.sweep(ORPHANS_AFTER_S)
    async for sha256 in house.blobs.kept(ORPHANS_AFTER_S):
        if not await Firmware.filter(sha256=sha256).exists():
            await house.blobs.delete(sha256)
            removed += 1
    return removed


def _judged(content: bytes, product: Product, version: int | None, settings_max: int) -> Verdict:
    return judge(
        content,
        platform=product.platform,
        product_id=product.number,
        slug=product.slug,
        version=version,
        allow_generic=product.allow_generic_firmware,
        settings_max=settings_max,
    )


def _about(product: Product, version: int, received: Incoming) -> Statement:
    return Statement(product.number, version, received.sha256, received.size, product.platform)


async def _create(product: Product, verdict: Verdict, stored: Stored, by: Viewer, **names: Any) -> Firmware:
    return await Firmware.create(
        product=product,
        version=verdict.version,
        display_version=(verdict.display_version or "")[:100] or None,
        title_key=same_name_key(names["title"])[:200],
        format=verdict.format,
        verified=verdict.verified,
        size=stored.size,
        sha256=stored.sha256,
        uploaded_at=datetime.now(UTC),
        uploaded_by=by.user,
        **names,
    )


def _require_version(version: int) -> None:
    if not 1 <= version <= VERSION_MAX:
        raise InvalidInput(f"A version is a whole number from 1 to {VERSION_MAX}.", path=("version",))


async def _require_new(product: Product, version: int | None, title: str) -> None:
    """Rules 2 and 3 of the gate; a version that is still to be read out of the file is asked about then."""
    if version is not None and version <= (highest := await _highest(product)):
        raise _not_increasing(version, highest)
    if await Firmware.filter(product_id=product.id, title_key=same_name_key(title)[:200]).exists():
        raise _title_taken()


async def _take_version(product: Product, version: int) -> None:
    """Of all that come with this version at once, one goes on."""
    if not await execute("UPDATE product SET last_version = $1 WHERE id = $2 AND last_version < $1", [version, product.id]):
        raise _not_increasing(version, await _highest(product))


async def _highest(product: Product) -> int:
    found = await rows("SELECT last_version FROM product WHERE id = $1", [product.id])
    return int(found[0]["last_version"])


async def _require_no_lock(product: Product, version: int) -> None:
    found = await rows(
        "SELECT device_id FROM device WHERE product_id = $1 AND desired_firmware_version = $2 LIMIT 1", [product.id, version]
    )
    if found:
        raise FirmwareInUse(f"Device {found[0]['device_id']} is locked to this version: unlock it first.", path=("version",))


def _not_increasing(version: int, highest: int) -> VersionNotIncreasing:
    return VersionNotIncreasing(
        f"Version {version} is not above {highest}, the highest ever uploaded here. Compile it with {highest + 1} or above.",
        path=("version",),
    )


def _title_taken() -> TitleTaken:
    return TitleTaken("Another firmware of this product has this title: say how this one differs.", path=("title",))


def _description(text: str) -> str:
    return require_text(text, path=("description",), max_length=DESCRIPTION_MAX, min_length=0)


def _file_name(name: str | None) -> str:
    """The last part of what a browser sent, for showing and for downloads; it never reaches a path."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cs"))[-255:] or "firmware.bin"


async def _record(by: Viewer, action: str, product: Product, version: int, **detail: Json) -> None:
    organization: Organization = product.organization
    await record(by, action, f"firmware:{product.number}/{version}", organization_id=organization.id, **detail)
