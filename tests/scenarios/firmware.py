"""Scenarios of firmware: uploading, editing, deleting, releasing and withdrawing."""

from datetime import UTC, datetime
from typing import Any

from models.device import Device
from models.product import Product
from tests.firmware_house import Sent, binary
from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import LAMP, Stage


def an_upload(version: int) -> dict[str, Any]:
    """The input of uploadFirmware; good for one call, which reads the file to its end."""
    return {"productId": LAMP, "version": version, "title": f"Version {version}", "binary": Again(binary(LAMP, version))}


class Again(Sent):
    """A file that begins anew when it was read to its end: everybody of the cast uploads it."""

    async def read(self, size: int = -1) -> bytes:
        piece = await super().read(size)
        self.at = self.at if piece else 0
        return piece


async def _uploaded(stage: Stage) -> Input:
    await stage.owner("uploadFirmware", "clientMutationId", **an_upload(1))
    return {"productId": LAMP, "version": 1}


async def proven(stage: Stage) -> Input:
    lamp, given = await Product.get(number=LAMP), await _uploaded(stage)
    said = {"reported_product_id": LAMP, "platform": "PHOTON", "firmware_version": 1, "proven": True}
    await Device.create(device_id="0" * 24, product=lamp, created_at=datetime.now(UTC), **said)
    return given


@mutation("uploadFirmware")
async def upload_firmware(stage: Stage) -> Input:
    return an_upload(1)


@mutation("updateFirmware")
async def update_firmware(stage: Stage) -> Input:
    return {**await _uploaded(stage), "title": "Warm white"}


@mutation("deleteFirmware")
async def delete_firmware(stage: Stage) -> Input:
    return await _uploaded(stage)


@mutation("releaseFirmware")
async def release_firmware(stage: Stage) -> Input:
    return await proven(stage)


@mutation("withdrawRelease")
async def withdraw_release(stage: Stage) -> Input:
    await stage.owner("releaseFirmware", "clientMutationId", **await proven(stage))
    return {"productId": LAMP}
