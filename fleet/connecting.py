"""A device's coming and going: who it proves to be, what it reports, and what the log is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from auth.viewer import Viewer
from firmware_formats.platforms import Platform
from fleet import claim_codes, claiming, updating
from fleet.auditing import record
from fleet.house import House
from fleet.placing import has_rights, is_ours, number_of, place
from fleet.telling import NO_PRODUCT, order, status
from models.device import Device, DeviceState
from models.log import DeviceChange
from models.product import Product
from models.sql import execute, rows
from models.transaction import retrying, transaction
from realtime import log, presence
from realtime.log import NewEntry

REPLACED = 4409  # the order that closes an older session in another process holds this, a blank, and the epoch of the newer


@dataclass(frozen=True, slots=True)
class Report:
    """What a device says of itself at hello; its proof has been checked already.

    `new_key` is a public key for a device without one, proved by the provisioning key of a product. `vouched_by` is the number
    of the product whose provisioning key this hello was proved with, if it was.
    """

    device_id: str
    product_id: int | None = None
    firmware_version: int | None = None
    platform: str | None = None
    serial_number: str | None = None
    functions: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    claim_code: str | None = None
    new_key: str | None = None
    vouched_by: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device's proof is held against: its own key or secret, else the provisioning key of the product `product_number`."""

    public_key: str | None = None
    secret: str | None = None
    provisioning_key: str | None = None
    product_number: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a device is in its product now. Without rights: no events into the product's log or out of it, no updates."""

    product_number: int
    has_rights: bool
    owner_id: int | None
    firmware_version: int | None


@dataclass(frozen=True, slots=True)
class Connected:
    """A session has begun; `epoch` is greater than that of every earlier one of the device."""

    epoch: int
    standing: Standing


class Refused(Enum):
    DENIED = "A person refused it, or it was removed and has come back."
    ANOTHER_KEY = "It has a key already, and showed a different one."


async def credentials(device_id: str, reported_product_id: int | None, *, house: House) -> Credentials:
    """What is known of a device before it has proved anything; one that is in no product yet can be vouched for by that it reports."""
    device = await Device.filter(device_id=device_id).select_related("product").first()
    product: Product | None = None if device is None or device.state == DeviceState.QUARANTINED else device.product
    if product is None and reported_product_id is not None:
        product = await Product.filter(number=reported_product_id).first()
    secret = provisioning_key = None
    if device is not None and device.secret is not None:
        secret = house.sealer.unseal(device.secret, context=f"device/{device_id}/secret")
    if product is not None and product.provisioning_key is not None:
        provisioning_key = house.sealer.unseal(product.provisioning_key, context=f"product/{product.number}/provisioning")
    return Credentials(device.public_key if device else None, secret, provisioning_key, product.number if product else None)


async def hello(report: Report, *, house: House, now: datetime) -> Connected | Refused:
    """Begin a session: place the device, note what it reports, settle its updates, and tell the log.

    A device that reports another product than the one it was imported into, and is not forced, is connected without rights.
    One that nobody imported goes into the quarantine of the product it reports; one that was removed from there is denied.
    The organization may be inactive: devices go on.
    Source: guide, "Your Product ID", "Quarantined devices"; vocabulary, "Device states and identity".
    """
    return await retrying(lambda: _hello(report, house.process.process, now))


async def left(device_id: str, epoch: int, *, now: datetime, grace_s: float = 0.0) -> None:
    """End the session `epoch`; nothing happens if a newer one has begun. With `grace_s` the log is told only if it stays away."""
    await retrying(lambda: _left(device_id, epoch, now, grace_s))


async def standing(device_id: str) -> Standing | None:
    """Where the device stands after somebody approved, moved or claimed it; None if it is gone."""
    device = await Device.filter(device_id=device_id).select_related("product").first()
    return None if device is None else _standing(device, device.product)


async def is_newest(device_id: str, epoch: int) -> bool:
    """Whether this session is the one whose words count."""
    return bool(await rows("SELECT 1 AS newest FROM presence WHERE device_id = $1 AND epoch = $2 AND online", [device_id, epoch]))


async def key_refused(device_id: str, *, address: str | None) -> None:
    """Write down that a second, different key was shown for a device, under a good provisioning key."""
    device = await Device.get(device_id=device_id).select_related("product")
    organization_id = None if device.product is None else device.product.organization_id
    async with transaction():
        await record(Viewer.house("gateway", address), "device.key_refused", f"device:{device_id}", organization_id=organization_id)


async def tell(now: datetime) -> int:
    """Tell the log what it is owed of devices that came and went; how many. For the lease, which sees when something is owed."""
    async with transaction():
        owed = await presence.take_due(now)
        await log.append(
            *(
                status(each.device_id, each.product_number or NO_PRODUCT, DeviceChange.ONLINE if each.online else DeviceChange.OFFLINE, now)
                for each in owed
            )
        )
    return len(owed)


# ── hello ──
async def _hello(report: Report, process: str, now: datetime) -> Connected | Refused:
    async with transaction():
        claim_code = await claim_codes.hold_bearer(report.claim_code, now)
        device = await _held(report, now)
        before = {column: getattr(device, column) for column in _COLUMNS}
        if not _pin(device, report.new_key):
            return Refused.ANOTHER_KEY
        device.reported_product_id = report.product_id
        product, told = await place(device, vouched_by=report.vouched_by, address=report.address, now=now)
        _note(device, product, report)
        changed = [column for column in _COLUMNS if getattr(device, column) != before[column]]
        if changed:
            await device.save(update_fields=changed)
        if product is not None and device.state == DeviceState.DENIED:
            await log.append(*told)
            return Refused.DENIED
        if claim_code is not None:
            told += await claim_codes.spend(claim_code, device, address=report.address, now=now)
        told += await updating.settle_at_hello(device, previous_version=before["firmware_version"], now=now)
        if "firmware_version" in changed and device.firmware_version is not None:
            version = str(device.firmware_version)
            told.append(status(device.device_id, number_of(product), DeviceChange.FIRMWARE_CHANGED, now, data=version))
        epoch = await _arrive(device.device_id, number_of(product), report.address, process, now, told)
    return Connected(epoch, _standing(device, product))


async def _arrive(device_id: str, product_number: int, address: str | None, process: str, now: datetime, told: list[NewEntry]) -> int:
    """Take the presence, and tell the log all there is; the session's epoch. The transaction's last statement is here."""
    arrival = await presence.came_online(device_id, process, address, now)
    if arrival.announce:
        told.append(status(device_id, product_number, DeviceChange.ONLINE, now))
    if arrival.replaced is not None and arrival.replaced[0] != process:  # one in our own process is closed by the gateway itself
        told.append(order(device_id, product_number, "close", now, data=f"{REPLACED} {arrival.epoch}"))
    await claiming.begin_history(await log.append(*told))
    return arrival.epoch


async def _held(report: Report, now: datetime) -> Device:
    """The device's row, held until the commit; made at the first contact of a device nobody imported."""
    if report.new_key is not None:
        await execute(
            "INSERT INTO device (device_id, state, created_at) VALUES ($1, 'QUARANTINED', $2) ON CONFLICT (device_id) DO NOTHING",
            [report.device_id, now],
        )
    return await Device.filter(device_id=report.device_id).select_for_update().get()


def _pin(device: Device, key: str | None) -> bool:
    """Whether the device may be who `key` says: the first key it is known by stays."""
    if key is None or key == device.public_key:
        return True
    if device.public_key is not None or device.secret is not None:
        return False
    device.public_key = key
    return True


_COLUMNS = (
    "public_key", "product_id", "state", "forced", "reported_product_id", "firmware_version", "proven", "platform", "serial_number",
    "functions", "variables",
)  # fmt: skip
_PLATFORMS = frozenset(Platform)


def _note(device: Device, product: Product | None, report: Report) -> None:
    device.firmware_version = report.firmware_version
    # Held against the gate of a release: this version ran, as this product, and came back to say so.
    device.proven = report.firmware_version is not None and product is not None and is_ours(device, product)
    if report.platform:
        said = report.platform.upper()
        device.platform = said if said in _PLATFORMS else Platform.OTHER
    device.serial_number = report.serial_number or device.serial_number
    device.functions, device.variables = list(report.functions), dict(report.variables)


def _standing(device: Device, product: Product | None) -> Standing:
    owner_id: int | None = device.owner_id  # type: ignore[attr-defined]  # a Tortoise column
    return Standing(number_of(product), has_rights(device, product), owner_id, device.firmware_version)


# ── goodbye ──
async def _left(device_id: str, epoch: int, now: datetime, grace_s: float) -> None:
    async with transaction():
        device = await Device.filter(device_id=device_id).select_for_update().first()  # before its presence, as at hello
        if device is None:
            return
        departure = await presence.went_offline(device_id, epoch, now, grace_s=grace_s)
        if not departure.changed:
            return
        await updating.went_away(device_id)
        product_id = device.product_id  # type: ignore[attr-defined]  # a Tortoise column
        product = None if product_id is None else await Product.get(id=product_id)
        if departure.announce:
            await log.append(status(device_id, number_of(product), DeviceChange.OFFLINE, now))
