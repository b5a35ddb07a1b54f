"""A device's coming and going: who it proves to be, what it reports, and what the log is told of it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any

import msgspec

from auth.viewer import Viewer
from firmware_formats.platforms import Platform
from fleet.auditing import record
from fleet.devices import claim_codes, claiming, keying
from fleet.devices.placing import Arriving, Products, has_rights, is_ours, number_of, place
from fleet.firmware import offering, updating
from fleet.house import House
from fleet.telling import NO_PRODUCT, order, status
from models.customer import ClaimCode
from models.device import Device, DeviceState
from models.log import DeviceChange
from models.product import Product
from models.sql import execute, execute_many, rows, tuples
from models.transaction import retrying, transaction
from realtime import log, presence
from realtime.log import NewEntry
from realtime.presence import Leaving

REPLACED = 4409  # the order that closes an older session in another process holds this, a blank, and the epoch of the newer


class Report(msgspec.Struct, frozen=True):
    """What a device says of itself at hello; its proof has been checked already.

    `new_key` is a public key for a device without one, proved by the provisioning key of a product. `vouched_by` is the number
    of the product whose provisioning key this hello was proved with, if it was. `proved_by` is what was stored of the device's own key.
    """

    device_id: str
    product_id: int | None = None
    firmware_version: int | None = None
    platform: str | None = None
    serial_number: str | None = None
    functions: tuple[str, ...] = ()
    variables: Mapping[str, str] = msgspec.field(default_factory=dict)
    address: str | None = None
    claim_code: str | None = None
    new_key: str | None = None
    vouched_by: int | None = None
    proved_by: str | None = None


class Credentials(msgspec.Struct, frozen=True):
    """What a device's proof is held against: its own key or secret, else the provisioning key of the product `product_number`."""

    public_key: str | None = None
    secret: str | None = None
    sealed: str | None = None  # the secret as it is stored
    provisioning_key: str | None = None
    product_number: int | None = None


class Standing(msgspec.Struct, frozen=True):
    """What a device is in its product now. Without rights: no events into the product's log or out of it, no updates."""

    product_number: int
    has_rights: bool
    owner_id: int | None
    firmware_version: int | None


class Connected(msgspec.Struct, frozen=True):
    """A session has begun; `epoch` is greater than that of every earlier one of the device."""

    epoch: int
    standing: Standing


class Refused(Enum):
    DENIED = "A person refused it, or it was removed and has come back."
    ANOTHER_KEY = "It has a key already, and showed a different one."
    KEY_ENDED = "The key it was proved by is its key no more."
    GONE = "It was known a moment ago, and has been deleted since."


async def credentials(asked: Sequence[tuple[str, int | None]], *, house: House) -> list[Credentials]:
    """What is known of devices before they have proved anything, each asked for with the product it reports.

    One that is in no product yet can be vouched for by the product it reports.
    """
    found = await rows(
        "SELECT device.device_id, device.public_key, device.secret, device.state, product.number, product.provisioning_key FROM device"
        " LEFT JOIN product ON product.id = device.product_id WHERE device.device_id = ANY($1)",
        [[device_id for device_id, _ in asked]],
    )
    by_id = {row["device_id"]: row for row in found}
    is_placed = {row["device_id"] for row in found if row["number"] is not None and row["state"] != DeviceState.QUARANTINED}
    keys = {row["number"]: row["provisioning_key"] for row in found if row["number"] is not None}
    if reported := {product for device_id, product in asked if device_id not in is_placed and product is not None} - keys.keys():
        more = await rows("SELECT number, provisioning_key FROM product WHERE number = ANY($1)", [list(reported)])
        keys |= {row["number"]: row["provisioning_key"] for row in more}
    unsealed = {
        number: house.sealer.unseal(key, context=f"product/{number}/provisioning") for number, key in keys.items() if key is not None
    }  # fmt: skip
    known = []
    for device_id, product in asked:
        row = by_id.get(device_id)
        number = row["number"] if row is not None and device_id in is_placed else product if product in keys else None
        sealed = None if row is None else row["secret"]
        secret = None if sealed is None else house.sealer.unseal(sealed, context=f"device/{device_id}/secret")
        known.append(Credentials(row["public_key"] if row else None, secret, sealed, unsealed.get(number), number))
    return known


async def hello(reports: Sequence[Report], *, house: House, now: datetime) -> list[Connected | Refused]:
    """Begin sessions, at most one of each device, in one commit.

    Places the devices, notes what they report, settles their updates and tells the log.
    A device that reports another product than the one it was imported into, and is not forced, is connected without rights.
    One that nobody imported goes into the quarantine of the product it reports; one that was removed from there is denied.
    The organization may be inactive: devices go on.
    Source: guide, "Your Product ID", "Quarantined devices"; vocabulary, "Device states and identity".
    """
    return await retrying(lambda: _hello(reports, house.process.process, now))


async def left(leaving: Sequence[Leaving], *, now: datetime) -> None:
    """End sessions, at most one of each device; nothing happens to a device of which a newer one has begun."""
    await retrying(lambda: _left(leaving, now))


async def standings(device_ids: Sequence[str]) -> dict[str, Standing]:
    """Where devices stand after somebody approved, moved or claimed them; those that are gone are left out."""
    found, products = await _rows_of(device_ids), Products()
    return {each.device_id: _standing(each, await products.by_id(each.product_id)) for each in found.values()}


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
async def _hello(reports: Sequence[Report], process: str, now: datetime) -> list[Connected | Refused]:
    async with transaction():
        bearers = await _bearers(reports, now)
        await _make(reports, now)
        devices = await _rows_of([report.device_id for report in reports], held=True)
        products, taken = Products(), {}
        told: list[NewEntry] = []
        refused: dict[str, Refused] = {}
        for report in reports:
            found = await _taken_in(report, devices.get(report.device_id), products, now)
            if isinstance(found, Refused):
                refused[report.device_id] = found
            else:
                taken[report.device_id] = found
        await _save(taken.values())
        for device_id, each in list(taken.items()):
            if each.product is not None and each.device.state == DeviceState.DENIED:
                told += each.told
                refused[device_id] = Refused.DENIED
                del taken[device_id]
        await _spend(bearers, taken, now)
        told += await _settled(taken, now)
        epochs = await _arrive(taken, process, now, told)
    return [refused.get(report.device_id) or _connected(taken[report.device_id], epochs[report.device_id]) for report in reports]


@dataclass(slots=True)
class _Taken:
    """A device whose hello has been taken in, and what is yet to be written of it."""

    device: Arriving
    before: tuple[Any, ...]  # what _noted read of it then
    former_version: int | None
    product: Product | None
    address: str | None
    told: list[NewEntry]

    @property
    def changed(self) -> tuple[str, ...]:
        after = _noted(self.device)
        return () if after == self.before else tuple(name for name, was, now in zip(_NOTED, self.before, after, strict=True) if was != now)


_NOTED = (
    "public_key", "key_team_id", "key_person_id", "product_id", "state", "forced", "reported_product_id", "firmware_version", "proven",
    "platform", "serial_number", "functions", "variables",
)  # fmt: skip
_noted = attrgetter(*_NOTED)
_JSON = ("functions", "variables")
_PLATFORMS = frozenset(Platform)


async def _make(reports: Sequence[Report], now: datetime) -> None:
    """The rows of devices nobody imported, at their first contact."""
    for report in sorted((each for each in reports if each.new_key is not None), key=lambda report: report.device_id):
        await execute(
            "INSERT INTO device (device_id, state, created_at) VALUES ($1, 'QUARANTINED', $2) ON CONFLICT (device_id) DO NOTHING",
            [report.device_id, now],
        )


async def _rows_of(device_ids: Sequence[str], *, held: bool = False) -> dict[str, Arriving]:
    """By id; `held` until the commit, and locked in the one order in which everybody locks several of them."""
    columns = ", ".join(each.name for each in fields(Arriving))
    lock = " FOR UPDATE" if held else ""
    found = await tuples(f"SELECT {columns} FROM device WHERE device_id = ANY($1) ORDER BY device_id{lock}", [list(device_ids)])
    return {device.device_id: device for device in map(_arriving, found)}


def _arriving(row: Sequence[Any]) -> Arriving:
    device = Arriving(*row)
    device.functions = device.functions and json.loads(device.functions)  # type: ignore[arg-type]  # text in the row
    device.variables = device.variables and json.loads(device.variables)  # type: ignore[arg-type]  # as above
    device.forced, device.proven, device.lock_waits = bool(device.forced), bool(device.proven), bool(device.lock_waits)
    return device


async def _taken_in(report: Report, device: Arriving | None, products: Products, now: datetime) -> _Taken | Refused:
    if device is None:
        return Refused.GONE
    before, former_version = _noted(device), device.firmware_version
    if not _pin(device, report.new_key):
        return Refused.ANOTHER_KEY
    if report.new_key is None and report.proved_by != (device.public_key or device.secret):
        return Refused.KEY_ENDED
    if vouching := await products.by_number(report.vouched_by):
        keying.vouch(device, team_id=vouching.organization_id)  # type: ignore[attr-defined]  # a Tortoise column
    device.reported_product_id = report.product_id
    product, told = await place(device, products, vouched_by=report.vouched_by, address=report.address, now=now)
    _note(device, product, report)
    return _Taken(device, before, former_version, product, report.address, told)


def _pin(device: Arriving, key: str | None) -> bool:
    """Whether the device may be who `key` says: the first key it is known by stays."""
    if key is None or key == device.public_key:
        return True
    if device.public_key is not None or device.secret is not None:
        return False
    device.public_key = key
    return True


def _note(device: Arriving, product: Product | None, report: Report) -> None:
    device.firmware_version = report.firmware_version
    # Held against the gate of a release: this version ran, as this product, and came back to say so.
    device.proven = report.firmware_version is not None and product is not None and is_ours(device, product)
    if report.platform:
        said = report.platform.upper()
        device.platform = said if said in _PLATFORMS else Platform.OTHER
    device.serial_number = report.serial_number or device.serial_number
    device.functions, device.variables = list(report.functions), dict(report.variables)


async def _save(taken: Iterable[_Taken]) -> None:
    """What has changed, and no other column: in one statement for all whose same columns have."""
    by_columns: dict[tuple[str, ...], list[Arriving]] = defaultdict(list)
    for each in taken:
        by_columns[each.changed].append(each.device)
    for columns, devices in by_columns.items():
        if columns:
            sets = ", ".join(f"{column} = ${place}" for place, column in enumerate(columns, 2))
            records = [(device.device_id, *(_stored(device, column) for column in columns)) for device in devices]
            await execute_many(f"UPDATE device SET {sets} WHERE device_id = $1", records)


def _stored(device: Arriving, column: str) -> Any:
    value = getattr(device, column)
    return json.dumps(value) if column in _JSON else value


async def _bearers(reports: Sequence[Report], now: datetime) -> dict[str, ClaimCode]:
    """The good claim codes that devices show, the customers behind them held: before the devices' own rows, as for every claim."""
    showing = sorted((report for report in reports if report.claim_code is not None), key=lambda report: report.device_id)
    held = {report.device_id: await claim_codes.hold_bearer(report.claim_code, now) for report in showing}
    return {device_id: code for device_id, code in held.items() if code is not None}


async def _spend(bearers: Mapping[str, ClaimCode], taken: Mapping[str, _Taken], now: datetime) -> None:
    for device_id, code in bearers.items():
        if each := taken.get(device_id):
            claimed = await claim_codes.spend(code, device_id, address=each.address, now=now)
            each.told += claimed
            if claimed:
                each.device.owner_id = code.customer.id


async def _settled(taken: Mapping[str, _Taken], now: datetime) -> list[NewEntry]:
    """What the log is told of the places, updates and versions of devices that are let in."""
    under_way = await offering.open_updates(taken)
    told = []
    for device_id, each in taken.items():
        told += each.told
        before, version = each.former_version, each.device.firmware_version
        if device_id in under_way or each.device.lock_waits:
            told += await updating.settle_at_hello(await Device.get(device_id=device_id), previous_version=before, now=now)
        if version not in (None, before):
            told.append(status(device_id, number_of(each.product), DeviceChange.FIRMWARE_CHANGED, now, data=str(version)))
    return told


async def _arrive(taken: Mapping[str, _Taken], process: str, now: datetime, told: list[NewEntry]) -> dict[str, int]:
    """Take the presence, and tell the log all there is; the sessions' epochs. The transaction's last statement is here."""
    arrivals = await presence.came_online({device_id: each.address for device_id, each in taken.items()}, process, now)
    for device_id, arrival in arrivals.items():
        number = number_of(taken[device_id].product)
        if arrival.announce:
            told.append(status(device_id, number, DeviceChange.ONLINE, now))
        if arrival.replaced is not None and arrival.replaced[0] != process:  # one in our own process is closed by the gateway itself
            told.append(order(device_id, number, "close", now, data=f"{REPLACED} {arrival.epoch}"))
    await claiming.begin_history(await log.append(*told))
    return {device_id: arrival.epoch for device_id, arrival in arrivals.items()}


def _connected(taken: _Taken, epoch: int) -> Connected:
    return Connected(epoch, _standing(taken.device, taken.product))


def _standing(device: Arriving, product: Product | None) -> Standing:
    return Standing(number_of(product), has_rights(device, product), device.owner_id, device.firmware_version)


# ── goodbye ──
async def _left(leaving: Sequence[Leaving], now: datetime) -> None:
    async with transaction():
        # Before their presence, as at hello.
        found = await rows(
            "SELECT device_id, product_id FROM device WHERE device_id = ANY($1) ORDER BY device_id FOR UPDATE",
            [[each.device_id for each in leaving]],
        )
        departures = await presence.went_offline(leaving, now)
        gone = [row for row in found if departures[row["device_id"]].changed]
        if not gone:
            return
        await updating.went_away([row["device_id"] for row in gone])
        products = Products()
        told = [
            status(row["device_id"], number_of(await products.by_id(row["product_id"])), DeviceChange.OFFLINE, now)
            for row in gone
            if departures[row["device_id"]].announce
        ]
        await log.append(*told)
