"""Bringing a device to the version decided for it: offering, following, settling, and giving up for a while."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet.firmware import offering
from fleet.firmware.damage import is_sound
from fleet.firmware.deciding import FirmwareRule, decide
from fleet.firmware.fact_finding import Found, facts_of
from fleet.firmware.offering import ON_OFFER, hold, open_update, open_updates, product_of, progressed, runs
from fleet.house import House
from fleet.rollouts import staging
from fleet.telling import status
from models.device import Device, Presence
from models.firmware import Firmware, Update, UpdateState
from models.global_ids import row_key
from models.log import DeviceChange
from models.sql import execute
from models.transaction import retrying, transaction
from realtime import log
from realtime.log import NewEntry
from settings import Settings

OFFERS_MAX = 5  # within OFFERS_WITHIN_S: a device that comes back sooner than this for a sixth is in a crash loop
OFFERS_WITHIN_S = 180
PROGRESS_STEP = 5  # percent: smaller steps are not worth a line in the log
ERROR_MAX = 500  # characters kept of what a device says went wrong
_HEARD = {"DOWNLOADING": UpdateState.DOWNLOADING, "INSTALLING": UpdateState.INSTALLING, "FAILED": UpdateState.FAILED}


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device is told: fetch this and run it. `url` is a path on this server, good until `expires_at`; `size` in bytes."""

    update_id: str
    sequence: int  # greater than of everything this device was told before
    version: int
    url: str
    size: int
    sha256: str
    signature: str | None
    expires_at: datetime
    forced: bool = False  # obey although you put updates off


@dataclass(frozen=True, slots=True)
class _Look:
    """What the device should run, None for nothing in particular, and the update under way."""

    version: int | None
    runs_it: bool
    waits: bool  # for the device's next hello
    update: Update | None
    forced: bool = False  # although the device puts updates off
    rollout_id: int | None = None  # the rollout that brings it there, and gives it a place first

    @property
    def settled(self) -> bool:
        return self.update is None and (self.version is None or self.runs_it or self.waits)


async def next_offer(device_id: str, *, updates_enabled: bool, house: House, at_hello: bool = False) -> Offer | None:
    """What this device is to be offered now; None when it runs what it should, or must not be moved.

    For a session's first look say `at_hello`: then all that is released or locked counts, and what an earlier session was offered
    is offered again. Later looks leave alone what waits for the device's next hello, and what is on its way already.
    Source: vocabulary, "Firmware decision"; reliability, rules 1, 3, 4, 5 and 9 of "OTA safety rules".
    """
    look = await _look(device_id, at_hello=at_hello)
    if look is None or look.settled:
        return None
    firmware = await _firmware(device_id, look)
    sound = firmware is not None and await is_sound(firmware, house)
    checked = firmware.sha256 if firmware is not None and sound else None
    return await retrying(lambda: _offer(device_id, updates_enabled=updates_enabled, at_hello=at_hello, checked=checked, house=house))


async def to_offer(device_ids: Sequence[str], *, at_hello: Collection[str] = ()) -> list[str]:
    """For which of these devices `next_offer` may have something: most run what they should, and that is seen for all at once."""
    looks = await _looks(device_ids, at_hello=at_hello)
    return [device_id for device_id, look in looks.items() if not look.settled]


async def reported(device_id: str, update_id: str, state: str, progress: int | None, error: str | None, *, house: House) -> None:
    """A device says how an update goes. What it says of another device's, a finished or an unknown one is ignored."""
    heard, key, now = _HEARD.get(state), row_key(update_id), datetime.now(UTC)
    if heard is None or key is None:
        return
    async with transaction():
        device = await hold(device_id)
        found = Update.filter(id=key, device_id=device_id, state__in=ON_OFFER).select_related("firmware")
        update = await found.first()
        if device is None or update is None or not _moves(update, heard, progress):
            return
        if heard is UpdateState.FAILED:
            await offering.fail(device, update, now, error=(error or "The device gave no reason.")[:ERROR_MAX])
            if not await offering.block_if_due(device, update, now, house.settings):
                await offering.retry_later(device, now)
        else:
            percent = 100 if heard is UpdateState.INSTALLING else max(update.progress, min(100, max(0, progress or 0)))
            await offering.move(update, heard, progress=percent)
        await _tell(device, update, now)


async def settle_at_hello(device: Device, *, previous_version: int | None, now: datetime) -> list[NewEntry]:
    """What the device's hello says about its updates; inside the connecting transaction, after the row was brought up to date.

    One whose version came back has SUCCEEDED, whatever else was said. One that was being installed and came back on another version
    has FAILED. Everything else open is to be offered again. Returns what to append to the log as the transaction's last statement.
    """
    product = await product_of(device)
    if device.lock_waits:
        device.lock_waits = False
        await device.save(update_fields=["lock_waits"])
    entries: list[NewEntry] = []
    update = await open_update(device.device_id)
    if update is not None:
        await _settle(device, update, now)
        if product is not None and update.state != UpdateState.PENDING:
            entries.append(progressed(product.number, update, device.device_id, now, version=update.firmware.version))
    succeeded = update is not None and update.state == UpdateState.SUCCEEDED
    if product is not None and succeeded and device.firmware_version == previous_version:
        # Another product's 3 became our 3: the number says nothing of it, so connecting has not told the log.
        version = device.firmware_version
        entries.append(status(device.device_id, product.number, DeviceChange.FIRMWARE_CHANGED, now, data=str(version), version=version))
    return entries


async def went_away(device_ids: Sequence[str]) -> None:
    """Their sessions have ended: what they were fetching is offered again at their next hello. Only for each one's newest session.

    One that was being installed stays so: the device is rebooting into it.
    """
    fetching = [UpdateState.OFFERED, UpdateState.DOWNLOADING]
    await execute(
        "UPDATE device_update SET state = $2 WHERE device_id = ANY($1) AND state = ANY($3)",
        [list(device_ids), UpdateState.PENDING, fetching],
    )


async def expire_stale(house: House, now: datetime) -> int:
    """End what nobody has finished within the settings' time; how many. A device that is away keeps what it was fetching."""
    before = now - timedelta(seconds=house.settings.update_in_flight_s)
    stale = await Update.filter(state__in=ON_OFFER, offered_at__lt=before).order_by("id").limit(500)
    ids = [(update.id, update.device_id) for update in stale]  # type: ignore[attr-defined]  # a Tortoise column
    for update_id, device_id in ids:
        await retrying(lambda update_id=update_id, device_id=device_id: _expire(update_id, device_id, house, now))  # type: ignore[misc]  # mypy cannot infer a bound lambda
    return len(ids)


async def consider_again(device_id: str) -> None:
    """Have the session of the device, if there is one, look again; the job offering.CONSIDER_AGAIN comes here."""
    now = datetime.now(UTC)
    async with transaction():
        device = await Device.filter(device_id=device_id).first()
        product = await product_of(device) if device is not None else None
        if product is not None:
            await log.append(*offering.consider_orders(product.number, [device_id], now))


# ── what is wanted ──
async def _look(device_id: str, *, at_hello: bool) -> _Look | None:
    return (await _looks([device_id], at_hello=[device_id] if at_hello else [])).get(device_id)


async def _looks(device_ids: Sequence[str], *, at_hello: Collection[str]) -> dict[str, _Look]:
    """By device; ids that name no device are left out."""
    found, updates = await facts_of(device_ids), await open_updates(device_ids)
    return {device_id: _seen(each, updates.get(device_id), at_hello=device_id in at_hello) for device_id, each in found.items()}


def _seen(found: Found, update: Update | None, *, at_hello: bool) -> _Look:
    decision = decide(found.facts)
    version, waits = decision.version, not at_hello and (decision.rule, decision.version) in found.waiting
    if decision.rule is FirmwareRule.DEVELOPMENT and update is not None and update.by_hand:
        version = update.firmware.version
    is_staged = decision.rule is FirmwareRule.ROLLOUT and found.facts.rollout is not None and found.facts.rollout.state != "HALTED"
    return _Look(
        version,
        version == found.running_version,
        waits,
        update,
        (decision.rule, version) in found.forced,
        found.rollout_id if is_staged else None,
    )


async def _firmware(device_id: str, look: _Look) -> Firmware | None:
    """What is to be offered, if anything is."""
    if look.version is None or look.runs_it or look.waits:
        return None
    if look.update is not None and look.update.firmware.version == look.version:
        firmware: Firmware = look.update.firmware
        return firmware
    device = await Device.filter(device_id=device_id).first()
    product_id = device.product_id if device is not None else None  # type: ignore[attr-defined]  # a Tortoise column
    return await Firmware.filter(product_id=product_id, version=look.version).first()


# ── offering ──
async def _offer(device_id: str, *, updates_enabled: bool, at_hello: bool, checked: str | None, house: House) -> Offer | None:
    now = datetime.now(UTC)
    async with transaction():
        device = await hold(device_id)
        product = await product_of(device) if device is not None else None
        look = await _look(device_id, at_hello=at_hello)
        if device is None or product is None or look is None or look.waits:
            return None
        update, entries = look.update, []
        if update is not None and update.firmware.version != look.version:
            entries = offering.cancel_orders(product.number, await offering.cancel_open([device_id], now), now)
            update = None
        firmware = await _firmware(device_id, look)
        before = update.state if update is not None else None
        if firmware is None or (before in ON_OFFER and not at_hello):
            offer = None
        elif reason := await _blocks(device, now, house.settings):
            update, offer = await _block(device, update, now, house.settings, reason), None
        else:
            ready = (updates_enabled or look.forced) and firmware.sha256 == checked
            place = await staging.take_place(look.rollout_id, device_id, now) if ready and look.rollout_id is not None else None
            entries += place.entries if place is not None else []
            ready = ready and (look.rollout_id is None or (place is not None and place.granted))
            if ready or place is None:  # whoever waits for a place in a rollout has no update yet
                update = update or await Update.create(device=device, firmware=firmware, state=UpdateState.PENDING, started_at=now)
            offer = await _make(device, update, firmware, now, house, forced=look.forced) if ready and update is not None else None
            if offer is not None and place is not None and update is not None:
                await staging.offered(place.course, device, update, datetime.now(UTC))  # later than whatever made room
        if update is not None and firmware is not None and update.state != before:
            entries.append(progressed(product.number, update, device_id, now, version=firmware.version))
        await log.append(*entries)
        return offer


async def _blocks(device: Device, now: datetime, settings: Settings) -> str | None:
    """Why it is offered nothing: blocked and not over yet, too many failures at its hellos, or back for more too often."""
    if device.update_blocked_until is not None:
        if device.update_blocked_until > now:
            return "blocked"
        await offering.lift_block(device)
    if device.update_failures >= settings.update_max_failures:
        return f"{device.update_failures} failures in a row"
    if device.offers_since is None or now - device.offers_since >= timedelta(seconds=OFFERS_WITHIN_S):
        device.offers, device.offers_since = 0, now
    if device.offers >= OFFERS_MAX:
        return f"{device.offers} attempts within {OFFERS_WITHIN_S} seconds"
    return None


async def _block(device: Device, update: Update | None, now: datetime, settings: Settings, reason: str) -> Update | None:
    """Block it unless it is; the update that shows it: what was under way, or what failed last."""
    if device.update_blocked_until is not None:
        return update
    last = update or await Update.filter(device_id=device.device_id).order_by("-id").first()
    await offering.block(device, last, now, settings, reason=reason)
    return last


async def _make(device: Device, update: Update, firmware: Firmware, now: datetime, house: House, *, forced: bool) -> Offer:
    device.update_sequence += 1  # the row is held: nobody else counts
    device.offers += 1
    await device.save(update_fields=["update_sequence", "offers", "offers_since"])
    update.state, update.attempt, update.sequence, update.offered_at = UpdateState.OFFERED, update.attempt + 1, device.update_sequence, now
    await update.save(update_fields=["state", "attempt", "sequence", "offered_at"])
    expires_at = now + timedelta(seconds=house.settings.download_ttl_s)
    parts = ("firmware", device.device_id, str(update.id))
    return Offer(
        update_id=str(update.id),
        sequence=device.update_sequence,
        version=firmware.version,
        url=f"/{'/'.join(parts)}/{house.signer.sign(parts, expires_at=expires_at)}",
        size=firmware.size,
        sha256=firmware.sha256,
        signature=firmware.signature,
        expires_at=expires_at,
        forced=forced,
    )


# ── following and settling ──
def _moves(update: Update, heard: UpdateState, progress: int | None) -> bool:
    """Whether it says anything new that can follow what it said before."""
    if heard is UpdateState.FAILED:
        return True
    if update.state == UpdateState.INSTALLING:
        return False
    if heard is UpdateState.DOWNLOADING and update.state == heard:
        percent = min(100, progress or 0)
        return percent >= update.progress + PROGRESS_STEP or percent == 100 > update.progress
    return True


async def _tell(device: Device, update: Update, now: datetime) -> None:
    product = await product_of(device)
    if product is not None:
        await log.append(progressed(product.number, update, device.device_id, now, version=update.firmware.version))


async def _settle(device: Device, update: Update, now: datetime) -> None:
    if runs(device, update.firmware.version):
        device.update_failures = 0
        await device.save(update_fields=["update_failures"])
        await offering.finish(update, UpdateState.SUCCEEDED, now)
    elif update.state == UpdateState.INSTALLING:
        said = "no version" if device.firmware_version is None else f"version {device.firmware_version}"
        of_another = "" if device.proven or device.firmware_version is None else ", but not as this product"
        await offering.fail(device, update, now, error=f"The device came back reporting {said}{of_another}.")
    elif update.state != UpdateState.PENDING:
        await offering.move(update, UpdateState.PENDING, progress=update.progress)


async def _expire(update_id: int, device_id: str, house: House, now: datetime) -> None:
    async with transaction():
        device = await hold(device_id)
        update = await Update.filter(id=update_id, state__in=ON_OFFER).select_related("firmware").first()
        if device is None or update is None:
            return
        online = await Presence.filter(device_id=device_id, online=True).exists()
        if not online and update.state != UpdateState.INSTALLING:
            await offering.move(update, UpdateState.PENDING, progress=update.progress)
        else:
            minutes = house.settings.update_in_flight_s // 60
            said = "did not come back" if update.state == UpdateState.INSTALLING else "did not get any further"
            await offering.fail(device, update, now, error=f"The device {said} within {minutes} minutes.")
            if not await offering.block_if_due(device, update, now, house.settings):
                await offering.retry_later(device, now)
        await _tell(device, update, now)
