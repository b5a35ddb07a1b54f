"""Scenarios of device groups."""

from models.customer import Customer
from models.device import DeviceGroup, GroupMembership
from models.global_ids import global_id
from tests.scenarios.device import a_device
from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import LAMP, WARD, Stage


async def _a_group(stage: Stage) -> str:
    made = await stage.owner("createDeviceGroup", "group { id }", productId=LAMP, name="emea", parent=WARD)
    return str(made["group"]["id"])


@mutation("createDeviceGroup")
async def create_device_group(stage: Stage) -> Input:
    return {"productId": LAMP, "name": "emea", "parent": WARD}


@mutation("renameDeviceGroup")
async def rename_device_group(stage: Stage) -> Input:
    return {"id": await _a_group(stage), "name": "apac"}


@mutation("updateDeviceGroup")
async def update_device_group(stage: Stage) -> Input:
    return {"id": await _a_group(stage), "releasesNeedApproval": True}


@mutation("deleteDeviceGroup")
async def delete_device_group(stage: Stage) -> Input:
    return {"id": await _a_group(stage)}


@mutation("addDevicesToGroup")
async def add_devices_to_group(stage: Stage) -> Input:
    return {"groupId": await _a_group(stage), "deviceIds": [await a_device()]}


@mutation("removeDevicesFromGroup")
async def remove_devices_from_group(stage: Stage) -> Input:
    group, device = await _a_group(stage), await a_device()
    await GroupMembership.create(group=await DeviceGroup.get(name="emea"), device_id=device)
    return {"groupId": group, "deviceIds": [device]}


@mutation("grantGroupAccess")
async def grant_group_access(stage: Stage) -> Input:
    return {"groupId": await _a_group(stage), "customerId": global_id("Customer", (await Customer.get(username="kim")).id)}


@mutation("revokeGroupAccess")
async def revoke_group_access(stage: Stage) -> Input:
    given = await grant_group_access(stage)
    await stage.owner("grantGroupAccess", "clientMutationId", **given)
    return given
