"""A build releases firmware by an API user's token: uploaded, proven by the test group, released; and not released unless it is proven."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_formats.signing import private_pem
from public_keys import public_half
from settings import Settings
from simulator.device import SimulatedDevice
from simulator.faults import Faults
from simulator.flash import Flash
from tests.clients import Client
from tests.connected import until
from tests.firmware_house import binary
from tests.imports import ids
from tests.processes import ROOT, ServerProcess

TEST_GROUP = 3
FLEET = ids(5)
SCOPES = ["products:read", "devices:read", "firmware:read", "firmware:write", "firmware:release"]


@dataclass
class Build:
    """What a build knows: the server, its token, the product, and the maker's key."""

    server: ServerProcess
    token: str
    product_id: int
    provisioning_key: str
    key: Ed25519PrivateKey
    folder: Path

    async def releases(self, version: int, *, signed: bool = True, **options: str) -> tuple[int, str]:
        """Exit code and what was printed, by `examples/ci_release.py` as it is."""
        file, pem = self.folder / "lamp.bin", self.folder / "release.pem"
        file.write_bytes(binary(self.product_id, version))
        pem.write_bytes(private_pem(self.key))
        about = [str(file), "--product", str(self.product_id), "--version", str(version)]
        given = [*about, "--url", self.server.url, "--test-group", "test-group", "--wait", "60"]
        if signed:
            _, signature = await self._run([sys.executable, "-m", "cli", "sign", *about, "--key", str(pem), "--platform", "PHOTON"])
            given += [f"--signature={signature.strip()}"]  # base64url may begin with "-": only after "=" is it no option
        for name, value in options.items():
            given += [f"--{name}", value]
        return await self._run([sys.executable, "examples/ci_release.py", *given, "--immediate"])

    async def _run(self, command: list[str]) -> tuple[int, str]:
        environment = {"PATH": os.environ["PATH"], "FLOTILLA_TOKEN": self.token}
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100
        )  # fmt: skip
        return done.returncode, done.stdout


@pytest.fixture
async def build(migrated_sqlite: Settings, start_server: Callable[..., ServerProcess], tmp_path: Path) -> AsyncIterator[Build]:
    server, key = start_server(migrated_sqlite), Ed25519PrivateKey.generate()
    async with Client(server.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password="the build does the rest", name="Ann"))[
            "token"
        ]
        await client.do("createOrganization", "organization { slug }", name="Acme")
        made = await client.do("createProduct", "product { productId }", organization="acme", name="Lamp", platform="PHOTON")
        product = {"productId": made["product"]["productId"]}
        provisioning = (await client.do("rotateProvisioningKey", "provisioningKey", **product))["provisioningKey"]
        await client.do("importDevices", "import { added }", **product, deviceIds=FLEET)
        group = (await client.do("createDeviceGroup", "group { id }", **product, name="test-group"))["group"]
        await client.do("addDevicesToGroup", "group { path }", groupId=group["id"], deviceIds=FLEET[:TEST_GROUP])
        await client.do("addSigningKey", "signingKey { name }", organization="acme", name="release", publicKey=public_half(key))
        machine = await client.do("createApiUser", "token", organization="acme", name="ci", scopes=SCOPES, **product)
        yield Build(server, machine["token"], product["productId"], provisioning, key, tmp_path)


@asynccontextmanager
async def fleet(build: Build, **faults: str) -> AsyncIterator[list[SimulatedDevice]]:
    """Every device, trusting the maker's key; `d0="never-ack"` gives the first one a fault."""
    url, trusted = f"{build.server.websocket_url}/device", [public_half(build.key)]
    devices = [
        SimulatedDevice(
            url, Flash(each, build.product_id, 1), provisioning_key=build.provisioning_key, trusted_keys=trusted, pace=0.02,
            faults=Faults([faults[f"d{place}"]] if f"d{place}" in faults else []),
        )
        for place, each in enumerate(FLEET)
    ]  # fmt: skip
    running = [asyncio.create_task(one.run()) for one in devices]
    try:
        await asyncio.wait_for(asyncio.gather(*(one.online.wait() for one in devices)), 60)
        yield devices
    finally:
        for one in devices:
            one.stop()
        await asyncio.gather(*running)


async def test_a_build_uploads_signed_firmware_proves_it_on_the_test_group_and_releases_it(build: Build) -> None:
    async with fleet(build) as devices:
        code, said = await build.releases(2)
        assert (code, said.splitlines()[-1]) == (0, "released version 2 to the product")
        await until(lambda: [one.flash.version for one in devices] == [2] * len(FLEET), within_s=60)
        again, said_again = await build.releases(2)

    assert "waiting for 3 devices to report version 2" in said
    assert (again, said_again.splitlines()[0]) == (0, "version 2 is there already")


async def test_what_is_not_signed_or_not_proven_is_not_released(build: Build) -> None:
    async with fleet(build, d0="never-ack") as devices:
        unsigned = await build.releases(2, signed=False)
        unproven = await build.releases(2, wait="8")
        await until(lambda: [one.flash.version for one in devices[1:TEST_GROUP]] == [2, 2])
        versions = [one.flash.version for one in devices[TEST_GROUP:]]

    assert (unsigned[0], "not released: SIGNATURE_REQUIRED" in unsigned[1]) == (1, True)
    assert unproven[0] == 1
    # The first of them for ever; the others come when they come.
    assert re.fullmatch(r"not released: After 8 s [123] of 3 devices do not report version 2\.", unproven[1].splitlines()[-1])
    assert versions == [1, 1], "nobody outside the test group was touched"
