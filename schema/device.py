"""Devices."""

import strawberry

from models import device as rows
from schema.event import DeviceEventFields
from schema.fields import DeviceID, Node, described, id_of, rows_of


@strawberry.type(description="The hardware.")
class Device(DeviceEventFields, Node):
    is_type_of = rows_of(rows.Device)
    id: strawberry.ID = id_of("Device")
    device_id: DeviceID = described("24 hexadecimal digits.")
    state: str = described("What it is in its product.")
    firmware_version: int | None = described("What it reports now.")
