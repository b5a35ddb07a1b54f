"""Firmware files for whoever holds a signed URL: a device its own update's, the team any version's."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from errors import NotFound
from fleet.firmware.damage import is_sound
from fleet.house import House
from models.device import DeviceState
from models.firmware import OPEN_UPDATE_STATES, Firmware, Update
from models.global_ids import row_key

_GONE = "There is nothing to download here, or not any more."


@dataclass(frozen=True, slots=True)
class File:
    """`size` in bytes, the SHA-256 of its bytes in hex, and how to read those from a start up to, not including, an end.

    With `location` they are to be fetched from the URL that it gives for a method.
    """

    size: int
    sha256: str
    read_range: Callable[[int, int], AsyncIterator[bytes]]
    file_name: str
    location: Callable[[Literal["GET", "HEAD"]], Awaitable[str]] | None = None


async def resolve(device_id: str, update_id: str, ticket: str, *, now: datetime, house: House) -> File:
    """What `/firmware/<device id>/<update id>/<ticket>` names. Asks of the database only with a genuine ticket.

    Raises NotFound alike for a wrong or expired ticket, another device's, an update that has ended, and a device that was removed.
    Source: device protocol, "Downloading firmware"; reliability, rules 1 and 8 of "OTA safety rules".
    """
    if not house.signer.verify(("firmware", device_id, update_id), ticket, now=now):
        raise NotFound(_GONE)
    found = Update.filter(id=_number(update_id), device_id=device_id, state__in=OPEN_UPDATE_STATES)
    update = await found.select_related("firmware", "device").first()
    if update is None or update.device.state != DeviceState.ACTIVE or update.device.product_id != update.firmware.product_id:
        raise NotFound(_GONE)
    return await _file(update.firmware, ticket, now, house)


async def resolve_for_team(firmware_id: str, ticket: str, *, now: datetime, house: House) -> File:
    """What `/firmware/download/<firmware id>/<ticket>` names. Raises NotFound."""
    if not house.signer.verify(("firmware", "download", firmware_id), ticket, now=now):
        raise NotFound(_GONE)
    firmware = await Firmware.filter(id=_number(firmware_id)).first()
    if firmware is None:
        raise NotFound(_GONE)
    return await _file(firmware, ticket, now, house)


def download_url(firmware: Firmware, house: House) -> str:
    """For a member of the team, who has reached the firmware; good for as long as a device's."""
    parts = ("firmware", "download", str(firmware.id))
    ticket = house.signer.sign(parts, expires_at=datetime.now(UTC) + timedelta(seconds=house.settings.download_ttl_s))
    return f"{house.settings.public_url}/{'/'.join(parts)}/{ticket}"


def _number(text: str) -> int:
    number = row_key(text)
    if number is None:
        raise NotFound(_GONE)
    return number


async def _file(firmware: Firmware, ticket: str, now: datetime, house: House) -> File:
    """Damaged bytes are served to nobody, by us or by the bucket; a URL of the bucket outlives no ticket."""
    if not await is_sound(firmware, house):
        raise NotFound(_GONE)
    blobs, left_s = house.blobs, house.signer.seconds_left(ticket, now=now)
    location = partial(blobs.presign, firmware.sha256, expires_s=left_s) if blobs.presigns else None
    return File(firmware.size, firmware.sha256, partial(blobs.read_range, firmware.sha256), firmware.file_name, location)
