"""Devices, as far as groups and customers need them."""

import strawberry

from models import device as rows
from models.device import DeviceState
from schema.event import DeviceEventFields
from schema.fields import DeviceID, Node, described, enumeration, id_of, rows_of
from schema.firmware import DeviceFirmwareFields

enumeration(
    DeviceState,
    "How a device stands to its product.",
    ACTIVE="A member of the product.",
    QUARANTINED="It reports the product's id but was never imported: it may do nothing until it is approved.",
    DENIED="Refused by a person.",
)


@strawberry.type(description="The hardware.")
class Device(DeviceEventFields, DeviceFirmwareFields, Node):
    is_type_of = rows_of(rows.Device)
    id: strawberry.ID = id_of("Device")
    device_id: DeviceID = described("Its id for life.")
    state: DeviceState = described("How it stands to its product.")
    firmware_version: int | None = described("What it reports now.")
