"""What the log is told of devices: changes that subscribers see, and orders that only the gateways read."""

from datetime import datetime

from models.log import DeviceChange, EntryKind
from realtime.log import NewEntry

NO_PRODUCT = 0  # the log's number for a device in no product: no product bears it


def status(device_id: str, product_number: int, change: DeviceChange, now: datetime, *, data: str | None = None) -> NewEntry:
    return NewEntry(product_number, EntryKind.STATUS, change, now, device_id, data)


def order(device_id: str | None, product_number: int, name: str, now: datetime, *, data: str | None = None) -> NewEntry:
    """`name` is consider, release, cancel or close; without a device it is for every session of the product."""
    return NewEntry(product_number, EntryKind.ORDER, name, now, device_id, data)
