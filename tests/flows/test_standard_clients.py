"""Apollo Client, urql and Relay, unmodified, against a real server: pages, a mutation, refusals and a live event."""

import asyncio
import json
from collections.abc import Callable

import pytest

from settings import Settings
from tests.clients import Client, npm_command
from tests.processes import ServerProcess

DEVICES = [f"{each:024x}" for each in range(60)]


@pytest.mark.parametrize(
    ("script", "needs"), [("apollo.mjs", "@apollo/client"), ("urql.mjs", "@urql/core"), ("relay.mjs", "relay-compiler")]
)
async def test_a_standard_client_reads_pages_acts_is_refused_and_hears_what_happens(
    migrated_sqlite: Settings, start_server: Callable[..., ServerProcess], script: str, needs: str
) -> None:
    server = start_server(migrated_sqlite)
    async with Client(server.url) as client:
        client.token = (await client.do("signUp", "token", email="ann@example.com", password="a stranger asks", name="Ann"))["token"]
        await client.do("createOrganization", "organization { slug }", name="Acme")
        made = await client.do("createProduct", "product { productId }", organization="acme", name="Lamp", platform="PHOTON")
        number = made["product"]["productId"]
        await client.do("importDevices", "import { id }", productId=number, deviceIds=DEVICES)

        command = npm_command(script, f"{server.url}/graphql", client.token, str(number), needs=needs)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(60):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()

    assert process.returncode == 0, err.decode()
    seen = json.loads(out)
    assert seen.pop("devices") == DEVICES
    assert seen == {
        "pages": [25, 25, 10],
        "total": 60,
        "renamed": "by the client",
        "refused": [{"code": "INVALID_INPUT", "path": ["input", "name"]}],
        "codes": ["BAD_REQUEST"],
        "heard": "hello",
    }
