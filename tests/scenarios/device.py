"""Scenarios of devices: keys, imports, admission, locks, and asking one that is connected."""

from datetime import UTC, datetime
from typing import Any

from models.device import Device, DeviceGroup, GroupMembership, Presence
from models.product import Product
from models.sql import execute
from tests.scenarios.firmware import an_upload
from tests.scenarios.scenario import Input, mutation, reading, streaming
from tests.scenarios.stage import LAMP, PROCESS, WARD, Stage

DEVICE = "55ff6d04498b49aabbccdd01"
ANOTHER = "55ff6d04498b49aabbccdd02"


async def a_device(**columns: Any) -> str:
    """A device of LAMP, in WARD, that is connected and runs version 1."""
    lamp, now = await Product.get(number=LAMP), datetime.now(UTC)
    said = {"reported_product_id": LAMP, "platform": "PHOTON", "firmware_version": 1, "proven": True}
    able = {"functions": ["blink"], "variables": {"light": "int32"}}
    row = await Device.create(**{"device_id": DEVICE, "product": lamp, "created_at": now} | said | able | columns)
    await Presence.create(
        device=row, online=True, process=PROCESS, epoch=1, last_heard=now, last_handshake_at=now, connects_since=now, connects=1
    )
    await GroupMembership.create(group=await DeviceGroup.get(product=lamp, name=WARD), device=row)
    return DEVICE


@mutation("registerDevice", in_organization=False)
async def register_device(stage: Stage) -> Input:
    """A kit of whoever asks."""
    return {"deviceId": ANOTHER}


@mutation("importDevices")
async def import_devices(stage: Stage) -> Input:
    return {"productId": LAMP, "deviceIds": [DEVICE, ANOTHER]}


@mutation("undoImport")
async def undo_import(stage: Stage) -> Input:
    made = await stage.owner("importDevices", "import { id }", productId=LAMP, deviceIds=[DEVICE])
    return {"importId": made["import"]["id"]}


@mutation("updateDevice")
async def update_device(stage: Stage) -> Input:
    return {"deviceId": await a_device(), "name": "Hall"}


@mutation("removeDevices")
async def remove_devices(stage: Stage) -> Input:
    return {"deviceIds": [await a_device()]}


@mutation("approveDevices")
@mutation("denyDevices")
async def admit_devices(stage: Stage) -> Input:
    return {"deviceIds": [await a_device(state="QUARANTINED")]}


@mutation("lockAndFlash")
async def lock_and_flash(stage: Stage) -> Input:
    device = await a_device()
    await stage.owner("uploadFirmware", "clientMutationId", **an_upload(2))
    return {"productId": LAMP, "firmwareVersion": 2, "when": "NOW", "deviceIds": [device]}


@mutation("unlockDevices")
async def unlock_devices(stage: Stage) -> Input:
    return {"productId": LAMP, "deviceIds": [await a_device(desired_firmware_version=1)]}


@mutation("unblockUpdates")
async def unblock_updates(stage: Stage) -> Input:
    device = await a_device(update_failures=3)
    await execute("UPDATE device SET update_blocked_until = $1 WHERE device_id = $2", [datetime(2999, 1, 1, tzinfo=UTC), device])
    return {"deviceIds": [device]}


@mutation("callFunction")
async def call_function(stage: Stage) -> Input:
    return {"deviceId": await a_device(), "name": "blink", "argument": "twice"}


@mutation("readVariable", entries=0)
async def read_variable(stage: Stage) -> Input:
    return {"deviceId": await a_device(), "name": "light"}


@mutation("pingDevice", entries=0)
async def ping_device(stage: Stage) -> Input:
    return {"deviceId": await a_device()}


@reading("device", "query ($id: DeviceID!) { found: device(deviceId: $id) { deviceId online product { name } } }")
async def device(stage: Stage) -> Input:
    return {"id": await a_device()}


@streaming("deviceStatus", "subscription ($id: DeviceID!) { deviceStatus(deviceId: $id) { change } }")
async def device_status(stage: Stage) -> Input:
    return {"id": await a_device()}


@streaming("importProgress", "subscription ($id: ID!) { importProgress(importId: $id) { state } }")
async def import_progress(stage: Stage) -> Input:
    made = await stage.owner("importDevices", "import { id }", productId=LAMP, deviceIds=[DEVICE])
    return {"id": made["import"]["id"]}
