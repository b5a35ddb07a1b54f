"""Devices that really connect, on both databases: proofs, placing, the newest session, and what the log makes them do."""

import asyncio

from gateway.protocol import Closing
from models.device import Device
from simulator.flash import Flash
from tests.connected import ID, PROVISIONING_KEY, a_device, a_product, entries, online, order, serving, until
from tests.house import HouseTester


async def test_an_imported_device_pins_its_key_at_first_contact_and_comes_back_by_it(tester: HouseTester) -> None:
    await tester.owner()
    await a_device(await a_product(tester))
    flash = Flash(ID, 1094, 3)
    async with serving(tester) as served:
        first = await served.connected(flash, serial_number="SN1", functions={"led": int}, variables={"temperature": 1.5})
        await served.stop(first)
        await until(lambda: not served.gateway.connections)
        again = await served.connected(flash, provisioning_key=None)

        assert again.welcome is not None
        assert again.welcome.state == "ACTIVE"
    device = await Device.get(device_id=ID)
    assert device.public_key is not None
    assert (device.reported_product_id, device.firmware_version, device.proven, device.platform) == (1094, 3, True, "PHOTON")
    assert device.serial_number == "SN1"
    assert await online() is False
    assert [name for name, *_ in await entries("status")][:4] == ["FIRMWARE_CHANGED", "ONLINE", "OFFLINE", "ONLINE"]
