"""The demo: a company with a product, firmware and a simulated fleet, made through the public API alone, as any client would."""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from firmware_formats.building import particle_binary
from firmware_formats.platforms import PARTICLE_ID, Platform
from simulator.fleet import Plan, SimulatedFleet, numbered_ids

EMAIL: Final = "demo@flotilla.example"
SLUG: Final = "acme-lights"
TEST_GROUP: Final = 3  # devices at hand that every version goes to first
EVENTS_PER_S: Final = 0.2  # of each device
READY_WITHIN_S: Final = 60

Say = Callable[[str], object]


class DemoFailed(Exception):
    """The server refused a step; the message is the server's own."""


@dataclass
class Keepsake:
    """What a second run of the demo needs of the first; kept in the data folder, readable to its owner only."""

    password: str
    product_id: int = 0
    provisioning_key: str = ""

    @classmethod
    def at(cls, path: Path) -> "Keepsake":
        return cls(**json.loads(path.read_text())) if path.exists() else cls(password=f"demo-{secrets.token_urlsafe(15)}")

    def keep(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))


class Api:
    """GraphQL over HTTP with one token."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url = f"{url}/graphql"
        self._http = http
        self.token = ""

    async def do(self, mutation: str, answer: str, **given: Any) -> dict[str, Any]:
        """The payload of one mutation. Raises DemoFailed with the first error's message."""
        kind = mutation[0].upper() + mutation[1:]
        text = f"mutation ($input: {kind}Input!) {{ {mutation}(input: $input) {{ {answer} errors {{ message }} }} }}"
        operations = {"query": text, "variables": {"input": given}}
        return self._payload(mutation, await self._http.post(self._url, json=operations, headers=self._headers()))

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of one query."""
        response = await self._http.post(self._url, json={"query": query, "variables": variables}, headers=self._headers())
        data: dict[str, Any] = response.json()["data"]
        return data

    async def upload(self, mutation: str, answer: str, content: bytes, file_name: str, **given: Any) -> dict[str, Any]:
        """The same with a file as `binary`, by the multipart request specification."""
        kind = mutation[0].upper() + mutation[1:]
        text = f"mutation ($input: {kind}Input!) {{ {mutation}(input: $input) {{ {answer} errors {{ message }} }} }}"
        operations = {"query": text, "variables": {"input": {**given, "binary": None}}}
        form = {"operations": json.dumps(operations), "map": json.dumps({"0": ["variables.input.binary"]})}
        headers = {**self._headers(), "GraphQL-Preflight": "1"}
        return self._payload(mutation, await self._http.post(self._url, data=form, files={"0": (file_name, content)}, headers=headers))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _payload(self, mutation: str, response: httpx.Response) -> dict[str, Any]:
        answer = response.json()
        errors = answer.get("errors") or answer["data"][mutation]["errors"]
        if errors:
            raise DemoFailed(f"{mutation}: {errors[0]['message']}")
        payload: dict[str, Any] = answer["data"][mutation]
        return payload


async def run(url: str, keepsake_path: Path, devices: int, say: Say) -> None:
    """Found the company if it is not there, connect its fleet, bring it to version 2, and let it publish until cancelled."""
    keepsake = Keepsake.at(keepsake_path)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        await _until_ready(url, http)
        api = Api(url, http)
        is_new = keepsake.product_id == 0
        if is_new:
            await _found(api, keepsake, devices)
            keepsake.keep(keepsake_path)
        else:
            api.token = (await api.do("logIn", "token", email=EMAIL, password=keepsake.password))["token"]
        fleet = SimulatedFleet(_plan(url, keepsake, devices), progress=None)
        running = asyncio.create_task(fleet.run())
        say(_greeting(url, keepsake, api.token))
        try:
            if is_new:
                await _update(api, keepsake, fleet, say)
            await running
        finally:
            fleet.stop()
            await running


async def _until_ready(url: str, http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(READY_WITHIN_S):
        while True:
            try:
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # not listening yet
            await asyncio.sleep(0.1)


async def _found(api: Api, keepsake: Keepsake, devices: int) -> None:
    signed_up = await api.do("signUp", "token", email=EMAIL, password=keepsake.password, name="Demo")
    api.token = signed_up["token"]
    await api.do("createOrganization", "organization { slug }", name="Acme Lights")
    made = await api.do("createProduct", "product { productId }", organization=SLUG, name="Porch Lamp", platform="PHOTON")
    product_id = keepsake.product_id = made["product"]["productId"]
    rotated = await api.do("rotateProvisioningKey", "provisioningKey", productId=product_id)
    keepsake.provisioning_key = rotated["provisioningKey"]
    ids = numbered_ids(devices)
    await api.do("importDevices", "import { added }", productId=product_id, deviceIds=ids)
    group = await api.do("createDeviceGroup", "group { id }", productId=product_id, name="test-group")
    await api.do("addDevicesToGroup", "group { id }", groupId=group["group"]["id"], deviceIds=ids[:TEST_GROUP])
    for version, title in ((1, "Factory"), (2, "Warm white at dusk"), (3, "Blinks when the door opens")):
        binary = particle_binary(product_id, version, PARTICLE_ID[Platform.PHOTON], size=8192)
        await api.upload(
            "uploadFirmware",
            "firmware { version }",
            binary,
            f"porch-lamp-{version}.bin",
            productId=product_id,
            version=version,
            title=title,
        )


async def _update(api: Api, keepsake: Keepsake, fleet: SimulatedFleet, say: Say) -> None:
    """The guide's flow: flash the test group, see it run there, release to the fleet."""
    number = keepsake.product_id
    await _until(lambda: bool(fleet.devices) and all(device.online.is_set() for device in fleet.devices))
    say(f"All {len(fleet.devices)} devices are online and run version 1.")
    await api.do("lockAndFlash", "devices { deviceId }", productId=number, group="test-group", firmwareVersion=2, when="NOW")
    await _until_running(api, number, 2, min(TEST_GROUP, len(fleet.devices)))
    say("Version 2 runs on the test group.")
    await api.do("releaseFirmware", "firmware { version }", productId=number, version=2, immediate=True)
    await _until_running(api, number, 2, len(fleet.devices))
    say("Version 2 is released and runs on every device. Version 3 waits for you: flash the test group, then release it.")


async def _until_running(api: Api, product_id: int, version: int, devices: int) -> None:
    """Until the server has heard so many devices report the version, which is what proves it."""
    query = "query ($id: Int!, $version: Int!) { product(productId: $id) { firmware(version: $version) { runningOn } } }"
    async with asyncio.timeout(READY_WITHIN_S * 2):
        while (await api.ask(query, id=product_id, version=version))["product"]["firmware"]["runningOn"] < devices:
            await asyncio.sleep(0.2)


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(READY_WITHIN_S * 2):
        while not reached():
            await asyncio.sleep(0.1)


def _plan(url: str, keepsake: Keepsake, devices: int) -> Plan:
    return Plan(
        url=f"ws{url.removeprefix('http')}/device",
        device_ids=numbered_ids(devices),
        product_id=keepsake.product_id,
        version=1,
        provisioning_key=keepsake.provisioning_key,
        rate_per_s=EVENTS_PER_S,
    )


def _greeting(url: str, keepsake: Keepsake, token: str) -> str:
    product = keepsake.product_id
    return f"""
  Explorer   {url}/
  E-mail     {EMAIL}
  Password   {keepsake.password}
  Token      {token}

  Paste the token into the explorer's token box, then ask:

    {{ product(productId: {product}) {{ name fleet {{ total online firmwareVersions {{ version devices }} }} }} }}

  and watch:

    subscription {{ events(productId: {product}) {{ event {{ deviceId name data publishedAt }} }} }}

  Ctrl-C ends it; the next ./dev demo goes on with the same company.
"""
