"""Idempotency keys between real server processes: whichever is asked, one effect, and files of a multipart request count by bytes."""

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from firmware_formats.building import particle_binary
from settings import Settings
from tests.clients import Client, Refused
from tests.processes import ServerProcess

SERVER = {"secret_key": "of the tests, thirty-two characters long", "rate_limits": False}


async def test_one_key_acts_once_whichever_process_is_asked(
    postgres_settings: Settings, redis_url: str, start_server: Callable[..., ServerProcess]
) -> None:
    settings = dataclasses.replace(postgres_settings, redis_url=redis_url, **SERVER)
    one, two = start_server(settings), start_server(settings)
    async with Client(one.url) as here, Client(two.url) as there:
        person = {"email": "ann@example.com", "password": "a sentence is a good password", "name": "Ann"}
        here.token = there.token = (await here.do("signUp", "token errors { message }", **person))["token"]
        await here.do("createOrganization", "organization { id } errors { message }", name="Acme")
        lamp = {"organization": "acme", "name": "Lamp", "platform": "PHOTON", "idempotencyKey": "a"}
        made = [client.do("createProduct", "product { productId } errors { message }", **lamp) for client in (here, there) * 5]

        numbers = {answer["product"]["productId"] for answer in await asyncio.gather(*made)}

        assert len(numbers) == 1
        number = numbers.pop()
        fields = "firmware { version sha256 } errors { code }"
        asked = {"productId": number, "title": "One", "idempotencyKey": "b"}
        first = await here.upload("uploadFirmware", fields, "binary", "one.bin", particle_binary(number, 1, 6), **asked)
        assert first["firmware"]["version"] == 1
        assert await there.upload("uploadFirmware", fields, "binary", "two.bin", particle_binary(number, 1, 6), **asked) == first
        with pytest.raises(Refused, match="INVALID_INPUT"):
            await there.upload("uploadFirmware", fields, "binary", "one.bin", particle_binary(number, 2, 6), **asked)
        lines = b"\n".join(b"%024x" % each for each in range(60_000))  # 1.5 MB: the transport keeps it on disk
        asked = {"productId": number, "idempotencyKey": "c"}
        begun = await here.upload("importDevices", "import { id } errors { code }", "file", "ids.txt", lines, **asked)
        assert await there.upload("importDevices", "import { id } errors { code }", "file", "ids.txt", lines, **asked) == begun
        audit = await here.ask('{ organization(slug: "acme") { auditLog { nodes { action } } } }')
        actions = [entry["action"] for entry in audit["organization"]["auditLog"]["nodes"]]
        assert [actions.count(act) for act in ("product.created", "firmware.uploaded")] == [1, 1]
        assert len(actions) == 4  # with the organization and the import
