"""Who is let into a product: devices that report it without having been imported are approved or denied by a person."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from auth.viewer import Viewer
from errors import CallerError, InvalidInput
from fleet.auditing import record
from fleet.devices import keying
from fleet.reaching import must_write
from fleet.scope import devices_by_id
from fleet.telling import SENT_AWAY, order, status
from models.device import Device, DeviceState
from models.log import DeviceChange
from models.product import Product
from models.sql import rows
from models.transaction import retrying, transaction
from realtime import log
from realtime.log import NewEntry

Entries = Callable[[int, str, datetime], Iterable[NewEntry]]


async def approve_devices(device_ids: Sequence[str], *, by: Viewer) -> list[Device]:
    """Let quarantined or denied devices into the product they report; all of them or none.

    One that is online is looked at again at once, and may be offered an update; one whose key a stranger to the team has set loses
    it and its session. Approving a member changes nothing.
    Raises NotFound and the other refusals with the path of the first device concerned.
    Source: vocabulary, "Device states and identity".
    """
    return await _move_all(device_ids, DeviceState.ACTIVE, "device.approved", _welcome, by)


async def deny_devices(device_ids: Sequence[str], *, by: Viewer) -> list[Device]:
    """Keep devices out until somebody approves them: they stay listed, and their sessions end. All of them or none."""
    return await _move_all(device_ids, DeviceState.DENIED, "device.denied", _turn_away, by)


async def _move_all(device_ids: Sequence[str], state: DeviceState, action: str, entries: Entries, by: Viewer) -> list[Device]:
    found, missing = await devices_by_id(by, device_ids)
    for rejected in missing:
        raise _about(rejected.refusal, rejected.device_id, device_ids)
    for device in found:
        try:
            must_write(device, "device.admit", by)
            _require_product(device)
        except CallerError as refusal:
            raise _about(refusal, device.device_id, device_ids) from None
    await retrying(lambda: _moved(found, state, action, entries, by))
    return found


async def _moved(found: list[Device], state: DeviceState, action: str, entries: Entries, by: Viewer) -> None:
    now, news = datetime.now(UTC), []
    async with transaction():
        for product, members in groupby(sorted(found, key=_by_product), key=lambda device: device.product):
            changed = await _set_state(product, [device.device_id for device in members], state)
            if changed:
                team, which = product.organization.id, {"product_id": product.id, "product_number": product.number}
                await record(by, action, f"product:{product.number}", organization_id=team, deviceIds=[*changed])
            if changed and state == DeviceState.ACTIVE:
                news += (await keying.end_strangers_keys(changed, **which, organization_id=team, by=by, now=now))[1]
            news += [entry for device_id in changed for entry in entries(product.number, device_id, now)]
        await log.append(*news)
    for device in found:
        device.state = state


async def _set_state(product: Product, device_ids: list[str], state: DeviceState) -> list[str]:
    """The devices that were in another state; one that has left the product since is not touched."""
    sql = "SELECT device_id FROM device WHERE device_id = ANY($1) AND product_id = $2 AND state <> $3 ORDER BY device_id FOR UPDATE"
    changed = [row["device_id"] for row in await rows(sql, [device_ids, product.id, state])]
    await Device.filter(device_id__in=changed).update(state=state)
    return changed


def _welcome(number: int, device_id: str, now: datetime) -> Iterable[NewEntry]:
    yield status(device_id, number, DeviceChange.ADDED, now)
    yield order(device_id, number, "consider", now)


def _turn_away(number: int, device_id: str, now: datetime) -> Iterable[NewEntry]:
    yield order(device_id, number, "close", now, data=SENT_AWAY)


def _by_product(device: Any) -> tuple[int, str]:
    return device.product.id, device.device_id


def _require_product(device: Device) -> None:
    if device.product is None:
        raise InvalidInput("This device is your own kit and in no product.")


def _about(refusal: CallerError, device_id: str, device_ids: Sequence[str]) -> CallerError:
    place = [each.lower() for each in device_ids].index(device_id)
    refusal.path = ("deviceIds", str(place))
    return refusal
