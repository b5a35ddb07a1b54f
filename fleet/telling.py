"""What the log is told of devices: changes that subscribers see, and orders that only the gateways read."""

from datetime import datetime

from models.log import DeviceChange, EntryKind
from realtime.log import NewEntry

NO_PRODUCT = 0  # the log's number for a device in no product: no product bears it
KEY_CHANGED = "4401"  # close codes of the device protocol, as an order to close carries them
SENT_AWAY = "4403"


def status(
    device_id: str, product_number: int, change: DeviceChange, now: datetime, *, data: str | None = None, version: int | None = None
) -> NewEntry:
    """A change of one device; `version` is the firmware it is about, where it is about one."""
    return NewEntry(product_number, EntryKind.STATUS, change, now, device_id, data, firmware_version=version)


def order(device_id: str | None, product_number: int, name: str, now: datetime, *, data: str | None = None) -> NewEntry:
    """`name` is consider, release, cancel (data: the update's id) or close (data: the code); no device: every session of the product."""
    return NewEntry(product_number, EntryKind.ORDER, name, now, device_id, data)
