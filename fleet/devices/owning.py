"""How far a customer sees into a device's past: from the hand-over on, and not at all once it is somebody else's.

Source: issue "Customers", returns: "the former owner sees nothing after, the next nothing before".
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from auth.viewer import Viewer
from fleet.seeing import Sight
from models.device import Device
from realtime.history import Selection
from realtime.log import Entry


async def entries_seen(sight: Sight, entries: Sequence[Entry]) -> list[Entry]:
    """Those of devices that are seen now; of a customer's own from their hand-over on.

    Asked for what is about to be handed out: whoever reads an entry of after the next hand-over finds the device not theirs.
    """
    ids = {entry.device_id for entry in entries if entry.device_id is not None}
    if sight.customer_id is None:
        seen = await sight.visible(ids)
        return [entry for entry in entries if entry.device_id in seen]
    since = await _seen_since(sight, list(ids))
    return [entry for entry in entries if entry.device_id in since and _is_after(entry, *since[entry.device_id])]


async def _seen_since(sight: Sight, device_ids: list[str]) -> dict[str, tuple[int, datetime | None]]:
    """Position and moment from which on a customer sees each device; what was granted to them they see whole."""
    found = sight.devices(device_ids, sight.groups or frozenset()).only("device_id", "owner_id", "owned_from", "claimed_at")
    return {
        row.device_id: (row.owned_from, row.claimed_at) if row.owner_id == sight.customer_id else (0, None)  # type: ignore[attr-defined]
        for row in await found
    }


def own_part(chosen: Selection, device: Device, by: Viewer) -> Selection:
    """Of a selection of this device's history, what its viewer may see: an owner's begins with the hand-over."""
    claimed = _claimed_at(device, by)
    if claimed is None:
        return chosen
    return replace(chosen, begins_at=device.owned_from, since=max(claimed, chosen.since or claimed))


def known_to(by: Viewer, device: Device, moment: datetime | None) -> datetime | None:
    """A moment out of the device's life; None for a customer who owns it and to whom it was not theirs then."""
    claimed = _claimed_at(device, by)
    return moment if moment is None or claimed is None or moment >= claimed else None


def _claimed_at(device: Device, by: Viewer) -> datetime | None:
    """When it became the viewer's; None for everybody but a customer who owns it."""
    is_owner = by.customer is not None and device.owner_id == by.customer.id  # type: ignore[attr-defined]  # a Tortoise column
    return device.claimed_at if is_owner else None


def _is_after(entry: Entry, position: int, moment: datetime | None) -> bool:
    """By both: an event that was published before the hand-over may have been stored after it."""
    return entry.position >= position and (moment is None or entry.published_at >= moment)
