"""Products, firmware and devices of a test house, made the short way: rows, and binaries of our own builder."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from firmware_formats.building import particle_binary
from firmware_formats.platforms import PARTICLE_ID, Platform
from models.device import Device, Presence
from models.firmware import Firmware
from models.log import LogEntry
from models.product import Product
from models.sql import execute
from tests.house import HouseTester


@dataclass
class Sent:
    """A file as the transport hands it over."""

    content: bytes
    filename: str | None = "lamp.bin"
    at: int = 0

    async def read(self, size: int = -1) -> bytes:
        end = len(self.content) if size < 0 else self.at + size
        piece, self.at = self.content[self.at : end], min(end, len(self.content))
        return piece


def binary(product_id: int, version: int, platform: str = "PHOTON", **options: int) -> bytes:
    return particle_binary(product_id, version, PARTICLE_ID[Platform(platform)], **options)  # type: ignore[arg-type]


async def upload(
    tester: HouseTester, token: str, product_id: int, version: int | None, content: bytes | None = None, **form: Any
) -> dict[str, Any]:
    """The payload of uploadFirmware; by default a sound Photon binary of exactly this product and version."""
    sent = Sent(binary(product_id, version or 1) if content is None else content)
    given = {"title": f"Version {version}", "version": version, **form}
    fields = "firmware { id version title verified format size sha256 fileName releasable notReleasableBecause released runningOn }"
    return await tester.do("uploadFirmware", fields, token, productId=product_id, binary=sent, **given)


async def uploaded(tester: HouseTester, token: str, product_id: int, *versions: int) -> list[Firmware]:
    for version in versions:
        payload = await upload(tester, token, product_id, version)
        assert payload["errors"] == []
    return [await Firmware.get(version=version, product__number=product_id) for version in versions]


async def device(product_id: int, number: int, *, version: int | None = 1, online: bool | None = None, **columns: Any) -> Device:
    """A device that has said hello as this product and reported `version`; None: it never said anything."""
    product, now = await Product.get(number=product_id), datetime.now(UTC)
    said = {"reported_product_id": product_id, "platform": product.platform, "firmware_version": version, "proven": True}
    row = await Device.create(device_id=f"{number:024x}", product=product, created_at=now, **({} if version is None else said) | columns)
    if version is not None or online is not None:
        await connect(row, now, online=bool(online))
    return row


async def connect(row: Device, now: datetime, *, online: bool = True) -> None:
    await execute("DELETE FROM presence WHERE device_id = $1", [row.device_id])
    await Presence.create(device=row, online=online, epoch=1, last_heard=now, last_handshake_at=now, connects_since=now, connects=1)


async def comes_back(row: Device, version: int, **columns: Any) -> Device:
    """Its row as the connecting transaction leaves it before the hello is settled."""
    await Device.filter(device_id=row.device_id).update(firmware_version=version, proven=True, **columns)
    await connect(row, datetime.now(UTC))
    return await Device.get(device_id=row.device_id)


async def entries(*, kind: str) -> list[tuple[str, str | None]]:
    """Name and device of all log entries of a kind, in order."""
    return [(entry.name, entry.device_id) for entry in await LogEntry.filter(kind=kind).order_by("position")]
