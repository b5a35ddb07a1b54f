"""How far a customer sees into a device's past: from the hand-over on, and not at all once it is somebody else's.

Source: issue "Customers", returns: "the former owner sees nothing after, the next nothing before".
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from auth.viewer import Viewer
from models.customer import Customer
from models.device import Device
from models.sql import read_time, rows
from realtime.history import Selection
from realtime.log import Entry


async def seen_by(customer: Customer, entries: Sequence[Entry]) -> list[Entry]:
    """Those of devices that are the customer's now, from their hand-over on.

    Asked for what is about to be handed out: whoever reads an entry of after the next hand-over finds the device not theirs.
    """
    found = await rows(
        "SELECT device_id, owned_from, claimed_at FROM device WHERE owner_id = $1 AND device_id = ANY($2)",
        [customer.id, list({entry.device_id for entry in entries if entry.device_id is not None})],
    )
    since = {row["device_id"]: (row["owned_from"], row["claimed_at"] and read_time(row["claimed_at"])) for row in found}
    return [entry for entry in entries if entry.device_id in since and _is_after(entry, *since[entry.device_id])]


def own_part(chosen: Selection, device: Device, by: Viewer) -> Selection:
    """Of a selection of this device's history, what its viewer may see: a customer's begins with the hand-over."""
    if by.customer is None or device.claimed_at is None:
        return chosen
    return replace(chosen, begins_at=device.owned_from, since=max(device.claimed_at, chosen.since or device.claimed_at))


def known_to(by: Viewer, device: Device, moment: datetime | None) -> datetime | None:
    """A moment out of the device's life; None for a customer to whom it was not theirs then."""
    if by.customer is None or device.claimed_at is None or moment is None:
        return moment
    return moment if moment >= device.claimed_at else None


def _is_after(entry: Entry, position: int, moment: datetime | None) -> bool:
    """By both: an event that was published before the hand-over may have been stored after it."""
    return entry.position >= position and (moment is None or entry.published_at >= moment)
