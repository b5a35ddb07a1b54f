"""Devices one by one: a person's own kit, a device's key, and what people write about a device."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from auth.spelling import require_text
from auth.tokens import Kind, mint
from auth.viewer import Viewer
from errors import AlreadyExists, InvalidInput, NotFound
from fleet import scope
from fleet.auditing import differing, record
from fleet.devices import keying
from fleet.house import House
from fleet.reaching import must_write
from fleet.telling import KEY_CHANGED, NO_PRODUCT, order
from models.device import Device, DeviceState
from models.product import Product
from models.sql import execute
from models.transaction import transaction
from public_keys import is_public_key
from realtime import log
from realtime.log import NewEntry

NOTES_MAX = 10_000  # characters


async def register_device(
    device_id: str, *, public_key: str | None, name: str | None, rotate: bool, house: House, by: Viewer
) -> tuple[Device, str | None]:
    """Give a device the key it proves itself with; a device that nobody has becomes the asking person's own kit.

    Without `public_key` a secret is made, which comes second and is shown once. On a device of one of the team's products only
    the key is set, and nobody becomes its owner. A second, different key needs `rotate`: the old one ends, and its session.
    Who owns a kit that a team they do not belong to has taken in has no say over its key any more.
    Raises NotFound for a device of others, AlreadyExists for a second key without `rotate` (audited), InvalidInput.
    Source: details, "Device keys".
    """
    if by.api_user is None:
        by.must_be_user("devices:write")
    by.must_hold("devices:write")
    key, label = _checked_key(public_key), None if name is None else require_text(name, path=("name",))
    async with transaction():
        device, is_taken = await _taken_in_hand(scope.device_key(device_id), by)
        had_key, same = bool(device.public_key or device.secret), key is not None and device.public_key == key
        refused = had_key and not same and not rotate
        secret = None if key or refused else mint(Kind.DEVICE_SECRET).text
        if refused:
            await _record(by, "device.key_refused", device)
        elif _vouch(device, by) or is_taken or not same or label not in (None, device.name):
            await _set_key(device, key, secret, label, house)
            await _record(by, "device.registered", device, key="secret" if secret else "public_key", replaced=had_key and not same)
            if had_key and not same:
                await log.append(await _close_order(device))
    if refused:
        raise AlreadyExists("The device has a key already: say `rotate: true` to replace it.", path=("publicKey",))
    return device, secret


async def update_device(device: Device, changes: Mapping[str, Any], *, by: Viewer) -> Device:
    """Change name, notes or the development mark: None empties a text, what is absent stays. Source: vocabulary, section 3."""
    must_write(device, "device.update", by)
    before, after = differing(device, _checked(changes))
    if not before:
        return device
    async with transaction():
        if not await Device.filter(device_id=device.device_id, product_id=_product_id(device)).update(**after):
            raise NotFound("The device has left meanwhile.", path=("deviceId",))
        await _record(by, "device.updated", device, before=before, after=after)
    device.update_from_dict(after)
    return device


async def _taken_in_hand(device_id: str, by: Viewer) -> tuple[Device, bool]:
    """The device, its row held, and whether it is now taken for the person, being nobody's. Raises NotFound for a device of others."""
    if by.user is not None:
        await execute(
            "INSERT INTO device (device_id, created_at, claimed_at, user_owner_id) VALUES ($1, $2, $2, $3)"
            " ON CONFLICT (device_id) DO NOTHING",
            [device_id, datetime.now(UTC), by.user.id],
        )
    device: Any = await Device.filter(device_id=device_id).select_for_update().first()
    stranger = NotFound("There is no such device for you.", path=("deviceId",))
    if device is None:
        raise stranger
    device.product = await _team_of(device.product_id)
    if _is_own_kit(device, by):
        return device, False
    if device.product is not None and await scope.devices(by).filter(device_id=device_id).exists():
        must_write(device, "device.register", by)
        return device, False
    if device.product is not None or by.user is None or device.user_owner_id is not None or not await _may_take(device, by):
        raise stranger
    device.user_owner_id, device.claimed_at = by.user.id, datetime.now(UTC)
    return device, True


def _is_own_kit(device: Any, by: Viewer) -> bool:
    """A person's, and no team that they do not belong to has taken it in: then it is that team's to say who it is."""
    if by.user is None or device.user_owner_id != by.user.id:
        return False
    return device.product is None or device.state != DeviceState.ACTIVE or by.belongs_to(device.product.organization.id, device.product.id)


def _vouch(device: Device, by: Viewer) -> bool:
    """Note that the key is set on the word of the team whose device it is, or of the person whose kit it is."""
    product: Product | None = device.product
    if product is not None and by.may("device.register", product.organization.id, product.id):
        return keying.vouch(device, team_id=product.organization.id)
    return keying.vouch(device, person_id=by.user.id if by.user is not None else None)


async def _may_take(device: Any, by: Viewer) -> bool:
    """Nobody's device is anybody's; one that a team has removed is that team's to take up again."""
    former = await _team_of(device.removed_from_id)
    return former is None or (by.walls_in(former.id) is None and by.may("device.register", former.organization.id, former.id))


async def _team_of(product_id: int | None) -> Product | None:
    return None if product_id is None else await Product.filter(id=product_id).select_related("organization").first()


async def _set_key(device: Any, key: str | None, secret: str | None, label: str | None, house: House) -> None:
    device.public_key = key
    device.secret = house.sealer.seal(secret, context=f"device/{device.device_id}/secret") if secret else None
    device.name = label if label is not None else device.name
    await device.save(update_fields=["public_key", "secret", "key_team_id", "key_person_id", "name", "user_owner_id", "claimed_at"])


async def _close_order(device: Device) -> NewEntry:
    number = device.product.number if device.product else NO_PRODUCT
    return order(device.device_id, number, "close", datetime.now(UTC), data=KEY_CHANGED)


async def _record(by: Viewer, action: str, device: Device, **detail: Any) -> None:
    team = device.product.organization.id if device.product else None
    await record(by, action, f"device:{device.device_id}", organization_id=team, **detail)


def _checked_key(public_key: str | None) -> str | None:
    if public_key is not None and not is_public_key(public_key):
        raise InvalidInput("A publicKey is an Ed25519 key: 32 bytes as base64url without padding.", path=("publicKey",))
    return public_key


def _checked(changes: Mapping[str, Any]) -> dict[str, str | bool | None]:
    wanted: dict[str, str | bool | None] = {}
    if "name" in changes:
        wanted["name"] = None if changes["name"] is None else require_text(changes["name"], path=("name",))
    if "notes" in changes:
        wanted["notes"] = None if changes["notes"] is None else require_text(changes["notes"], path=("notes",), max_length=NOTES_MAX)
    if changes.get("development") is not None:
        wanted["development"] = changes["development"]
    return wanted


def _product_id(device: Any) -> int | None:
    return device.product_id  # type: ignore[no-any-return]  # Tortoise makes …_id columns at run time
