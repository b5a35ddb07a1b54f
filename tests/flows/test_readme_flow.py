"""The README's story through real servers: sign up, define, import, upload, lock and flash, release, and watch it happen."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from settings import Settings
from simulator.fleet import Plan, SimulatedFleet, numbered_ids
from tests import real_binaries
from tests.clients import Client, Refused, Watcher
from tests.firmware_formats import npm_peer
from tests.processes import ServerProcess

FLEET = 200
TEST_GROUP = 5
PASSWORD = "a stranger clones it and types"
STATUS = "subscription ($id: Int!) { deviceStatus(productId: $id) { cursor change device { deviceId firmwareVersion } } }"
EVENTS = "subscription ($id: Int!) { events(productId: $id) { cursor event { deviceId name data } } }"


@pytest.fixture
def embedded(migrated_sqlite: Settings, start_server: Callable[..., ServerProcess]) -> list[ServerProcess]:
    return [start_server(migrated_sqlite)]


@pytest.fixture
def production(migrated_postgres: Settings, redis_url: str, start_server: Callable[..., ServerProcess]) -> list[ServerProcess]:
    """Two processes on one PostgreSQL database and one Redis."""
    settings = dataclasses.replace(migrated_postgres, redis_url=redis_url)
    return [start_server(settings), start_server(settings)]


@pytest.fixture(params=["embedded", "production"])
def servers(request: pytest.FixtureRequest) -> list[ServerProcess]:
    started: list[ServerProcess] = request.getfixturevalue(request.param)
    return started


@asynccontextmanager
async def connected(servers: list[ServerProcess], product_id: int, key: str, ids: list[str]) -> AsyncIterator[list[Any]]:
    """The devices, spread over the servers, until the block ends."""
    fleets = []
    for number, server in enumerate(servers):
        plan = Plan(
            url=f"{server.websocket_url}/device",
            device_ids=ids[number :: len(servers)],
            product_id=product_id,
            version=1,
            provisioning_key=key,
            rate_per_s=0.1,
        )
        fleets.append(SimulatedFleet(plan))
    running = [asyncio.create_task(fleet.run()) for fleet in fleets]
    await asyncio.sleep(0)
    try:
        yield fleets
    finally:
        for fleet in fleets:
            fleet.stop()
        await asyncio.gather(*running)


async def test_a_stranger_gets_from_sign_up_to_a_released_firmware_and_sees_it_live(servers: list[ServerProcess]) -> None:
    here, there = servers[0].url, servers[-1].url
    ids = numbered_ids(FLEET)
    async with Client(here) as client, Client(there) as other:
        product_id, key = await _found(client, ids)
        other.token = client.token
        await _upload(client, product_id)

        watching = Watcher(there, client.token, STATUS, {"id": product_id})
        hearing = Watcher(there, client.token, EVENTS, {"id": product_id})
        async with watching as status, hearing as events, connected(servers, product_id, key, ids):
            await _until(lambda: _online(other, product_id), FLEET)
            with pytest.raises(Refused, match="FIRMWARE_NOT_PROVEN"):
                await client.do("releaseFirmware", "firmware { version }", productId=product_id, version=2)
            flashed = await client.do(
                "lockAndFlash",
                "devices { deviceId } rejected { deviceId }",
                productId=product_id,
                group="test-group",
                firmwareVersion=2,
                when="NOW",
            )
            assert (len(flashed["devices"]), flashed["rejected"]) == (TEST_GROUP, [])
            await _until(lambda: _running(other, product_id, 2), TEST_GROUP)

            await client.do("releaseFirmware", "firmware { version }", productId=product_id, version=2, immediate=True)
            await _until(lambda: _running(other, product_id, 2), FLEET)

            await status.until(lambda: len(_brought_to(status, 2)) == FLEET)
            await events.until(lambda: len(events.messages) >= 20)
        assert Counter(_brought_to(status, 2)) == Counter(ids), "each device is told once that it runs version 2"
        cursors = [message["data"]["deviceStatus"]["cursor"] for message in status.messages]
        assert len(cursors) == len(set(cursors)), "no message came twice"
        assert {message["data"]["events"]["event"]["name"] for message in events.messages} == {"temperature"}
        assert {"organization.created", "product.created", "firmware.uploaded", "firmware.released"} <= await _audited(client)
    for server in servers:
        server.stop()
        assert "Traceback" not in server.log()


async def _found(client: Client, ids: list[str]) -> tuple[int, str]:
    """From nothing to a product with imported devices and a test group; its productId and provisioning key."""
    client.token = (await client.do("signUp", "token", email="ann@example.com", password=PASSWORD, name="Ann"))["token"]
    slug = (await client.do("createOrganization", "organization { slug }", name="Acme"))["organization"]["slug"]
    made = await client.do("createProduct", "product { productId }", organization=slug, name="Lamp", platform="PHOTON")
    product_id = made["product"]["productId"]
    key = (await client.do("rotateProvisioningKey", "provisioningKey", productId=product_id))["provisioningKey"]
    lines = "\r\n".join(device_id.upper() for device_id in ids).encode()
    imported = await client.upload("importDevices", "import { added total }", "file", "ids.txt", lines, productId=product_id)
    assert imported["import"] == {"added": FLEET, "total": FLEET}
    group = await client.do("createDeviceGroup", "group { id }", productId=product_id, name="test-group")
    await client.do("addDevicesToGroup", "group { path }", groupId=group["group"]["id"], deviceIds=ids[:TEST_GROUP])
    return product_id, key


async def _upload(client: Client, product_id: int) -> None:
    """A real binary as it is, which is refused, and then re-stamped for the product by the vendor's own tool."""
    binary = real_binaries.read_all()["tinker-0.4.5-photon.bin"]
    stamped = npm_peer.restamped(binary, product_id, 2)
    form = {"productId": product_id, "version": 2, "title": "Warm white"}
    with pytest.raises(Refused, match="BINARY_MISMATCH"):
        await client.upload("uploadFirmware", "firmware { version }", "binary", "lamp.bin", binary, **form)
    uploaded = await client.upload("uploadFirmware", "firmware { version verified size }", "binary", "lamp.bin", stamped, **form)
    assert uploaded["firmware"] == {"version": 2, "verified": True, "size": len(stamped)}


async def _audited(client: Client) -> set[str]:
    audit = await client.ask('{ organization(slug: "acme") { auditLog(first: 100) { nodes { action } } } }')
    return {entry["action"] for entry in audit["organization"]["auditLog"]["nodes"]}


def _brought_to(status: Watcher, version: int) -> list[str]:
    assert all(message.get("data") for message in status.messages), [each for each in status.messages if not each.get("data")]
    told = [message["data"]["deviceStatus"] for message in status.messages]
    return [
        each["device"]["deviceId"] for each in told if each["change"] == "FIRMWARE_CHANGED" and each["device"]["firmwareVersion"] == version
    ]


async def _until(count: Callable[[], Any], wanted: int) -> None:
    async with asyncio.timeout(120):
        while (seen := await count()) != wanted:
            assert seen <= wanted, f"{seen} of {wanted}"
            await asyncio.sleep(0.2)


async def _online(client: Client, product_id: int) -> int:
    data = await client.ask("query ($id: Int!) { product(productId: $id) { fleet { online } } }", id=product_id)
    return int(data["product"]["fleet"]["online"])


async def _running(client: Client, product_id: int, version: int) -> int:
    query = "query ($id: Int!, $v: Int!) { product(productId: $id) { firmware(version: $v) { runningOn } } }"
    data = await client.ask(query, id=product_id, v=version)
    return int(data["product"]["firmware"]["runningOn"])
