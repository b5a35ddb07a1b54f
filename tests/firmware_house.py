"""Products, firmware and devices of a test house, made the short way: rows, and binaries of our own builder."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from firmware_formats.building import particle_binary
from firmware_formats.platforms import PARTICLE_ID, Platform
from fleet.firmware import updating
from fleet.firmware.updating import Offer
from models.device import Device, Presence
from models.firmware import Firmware, Update
from models.global_ids import global_id
from models.log import LogEntry
from models.product import Product
from models.sql import execute
from models.transaction import transaction
from realtime import log
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

    async def seek(self, offset: int) -> None:
        self.at = offset


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


@dataclass
class Story:
    """A product with versions 1 to 4 uploaded, all of them proven, and one device online that runs version 1."""

    tester: HouseTester
    owner: str
    product_id: int
    row: Device

    async def act(self, mutation: str, **input: Any) -> None:
        payload = await self.tester.do(mutation, "clientMutationId", self.owner, productId=self.product_id, **input)
        assert payload["errors"] == []

    async def offer(self, *, at_hello: bool = False, enabled: bool = True) -> Offer | None:
        return await updating.next_offer(self.row.device_id, updates_enabled=enabled, house=self.tester.house, at_hello=at_hello)

    async def offered(self, **options: bool) -> Offer:
        offer = await self.offer(**options)
        assert offer is not None
        return offer

    async def says(self, offer: Offer, state: str, progress: int | None = None, error: str | None = None) -> None:
        await updating.reported(self.row.device_id, offer.update_id, state, progress, error, house=self.tester.house)

    async def hello(self, version: int) -> None:
        before = (await Device.get(device_id=self.row.device_id)).firmware_version
        async with transaction():
            row = await comes_back(self.row, version)
            await log.append(*await updating.settle_at_hello(row, previous_version=before, now=datetime.now(UTC)))

    async def update(self) -> dict[str, Any]:
        query = """query ($id: ID!) { node(id: $id) { ... on Update {
            state attempt progress error blockedUntil finishedAt firmware { version } device { deviceId } } } }"""
        last = await Update.filter(device_id=self.row.device_id).order_by("-id").first()
        assert last is not None
        found = await self.tester.ask(query, self.owner, id=global_id("Update", last.id))
        node: dict[str, Any] = found["node"]
        return node


async def begin(tester: HouseTester) -> Story:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1, 2, 3, 4)
    for version in (1, 2, 3, 4):
        await device(product_id, 100 + version, version=version)
    return Story(tester, owner, product_id, await device(product_id, 1, version=1, online=True))
