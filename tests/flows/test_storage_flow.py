"""Firmware through real servers and every store: uploaded, flashed, cut off again and again, and on the device byte for byte."""

import asyncio
import dataclasses
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from models.importing import Import, ImportState
from settings import Settings
from simulator.device import SimulatedDevice
from simulator.flash import Flash
from tests.clients import Client
from tests.connected import until
from tests.cutting import Cutter
from tests.house import HouseTester, open_house
from tests.imports import ids, imported
from tests.processes import ServerProcess
from tests.s3 import KEYS, Bucket

ID = "55ff6d04498b49aabbccdd01"
SIZE = 2 << 20
CUTS = 20
FIRMWARE = random.Random(4).randbytes(SIZE)
SHA256 = hashlib.sha256(FIRMWARE).hexdigest()
SHOWN = "query ($p: Int!) { product(productId: $p) { firmware(version: 2) { downloadUrl sha256 } } }"


@dataclasses.dataclass
class Place:
    """A server whose downloads go through `cutter`: served by itself, or by the bucket."""

    server: ServerProcess
    cutter: Cutter
    presigned: bool

    @property
    def devices_url(self) -> str:
        through = self.server.url if self.presigned else self.cutter.url
        return f"ws{through.removeprefix('http')}/device"


@pytest.fixture(params=["folder", "s3", "s3 presigned"])
async def place(
    request: pytest.FixtureRequest, migrated_sqlite: Settings, start_server: Callable[..., ServerProcess], tmp_path: Path
) -> AsyncIterator[Place]:
    chance = random.Random(20)
    cuts = [chance.randrange(1, SIZE) for _ in range(CUTS)]
    presigned = request.param == "s3 presigned"
    if request.param == "folder":
        server = start_server(migrated_sqlite)
    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        if presigned:
            async with Cutter(bucket.endpoint, cuts) as cutter:
                url = Bucket(cutter.url).url(tmp_path.name)
                settings = dataclasses.replace(migrated_sqlite, blob_url=url, blob_presigned=True)
                yield Place(await asyncio.to_thread(start_server, settings, **KEYS), cutter, presigned)
            return
        server = start_server(dataclasses.replace(migrated_sqlite, blob_url=bucket.url(tmp_path.name)), **KEYS)
    async with Cutter(server.url, cuts) as cutter:
        yield Place(server, cutter, presigned)


async def found(client: Client) -> tuple[int, str]:
    """A product with one imported device and version 2 uploaded; its productId and provisioning key."""
    client.token = (await client.do("signUp", "token", email="ann@example.com", password="a cut is no end of it", name="Ann"))["token"]
    await client.do("createOrganization", "organization { slug }", name="Acme")
    made = await client.do("createProduct", "product { productId }", organization="acme", name="Gateway", platform="OTHER")
    product_id = made["product"]["productId"]
    key = (await client.do("rotateProvisioningKey", "provisioningKey", productId=product_id))["provisioningKey"]
    await client.do("importDevices", "import { added }", productId=product_id, deviceIds=[ID])
    form = {"productId": product_id, "version": 2, "title": "Two"}
    uploaded = await client.upload("uploadFirmware", "firmware { sha256 }", "binary", "gateway.img", FIRMWARE, **form)
    assert uploaded["firmware"]["sha256"] == SHA256
    return product_id, key


@asynccontextmanager
async def device(place: Place, product_id: int, key: str) -> AsyncIterator[SimulatedDevice]:
    one = SimulatedDevice(place.devices_url, Flash(ID, product_id, 1), platform="OTHER", provisioning_key=key, pace=0.01)
    running = asyncio.create_task(one.run())
    try:
        await asyncio.wait_for(one.online.wait(), 60)
        yield one
    finally:
        one.stop()
        await running


async def test_a_download_cut_at_20_offsets_is_resumed_to_the_same_bytes_and_little_is_sent_twice(place: Place) -> None:
    async with Client(place.server.url) as client:
        product_id, key = await found(client)
        async with device(place, product_id, key) as one:
            flash = {"productId": product_id, "firmwareVersion": 2, "when": "NOW", "deviceIds": [ID]}
            await client.do("lockAndFlash", "devices { deviceId }", **flash)
            await until(lambda: one.flash.version == 2)
            await until(lambda: _state(client))
        update = (await _device(client))["update"]
        answer = await client.http.get(f"{place.server.url}{place.cutter.paths[0]}")

    print(f"{len(place.cutter.paths)} requests, {place.cutter.sent - SIZE} bytes sent beyond the {SIZE} of the file")
    assert (update["state"], update["attempt"]) == ("SUCCEEDED", 1)
    assert place.cutter.cuts == []
    assert len(place.cutter.paths) == CUTS + 1
    assert SIZE <= place.cutter.sent <= SIZE + CUTS * (64 << 10)
    assert place.presigned or answer.status_code == 404, "an update that has ended serves nothing"


async def _state(client: Client) -> bool:
    return bool((await _device(client))["update"]["state"] == "SUCCEEDED")


async def _device(client: Client) -> Any:
    return (await client.ask("query ($id: DeviceID!) { device(deviceId: $id) { update { state attempt } } }", id=ID))["device"]


async def test_the_team_fetches_a_file_whole_and_in_ranges_and_by_no_other_method(place: Place) -> None:
    place.cutter.is_cutting = False
    async with Client(place.server.url) as client:
        product_id, _ = await found(client)
        url = (await client.ask(SHOWN, p=product_id))["product"]["firmware"]["downloadUrl"]
        http = client.http

        whole = await http.get(url, follow_redirects=True)
        head = await http.head(url, follow_redirects=True)
        piece = await http.get(url, headers={"Range": "bytes=1048570-1048580"}, follow_redirects=True)
        beyond = await http.get(url, headers={"Range": f"bytes={SIZE}-"}, follow_redirects=True)
        of_another = await http.get(url, headers={"Range": "bytes=5-", "If-Range": '"another"'}, follow_redirects=True)
        known = await http.get(url, headers={"If-None-Match": f'"{SHA256}"'})
        others = [(await http.request(method, url, follow_redirects=True)).status_code for method in ("POST", "PUT", "DELETE", "PATCH")]
        first = await http.get(url)

    assert (whole.status_code, hashlib.sha256(whole.content).hexdigest()) == (200, SHA256)
    assert whole.headers["content-type"] == "application/octet-stream"
    assert whole.headers["content-disposition"].startswith("attachment")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(SIZE), b"")
    assert (piece.status_code, piece.content) == (206, FIRMWARE[1048570:1048581])
    assert beyond.status_code == 416
    if place.presigned:  # a bucket may ignore If-Range: under the name of a hash there is never another file
        assert of_another.content in (FIRMWARE, FIRMWARE[5:])
    else:
        assert (of_another.status_code, of_another.content == FIRMWARE) == (200, True)
    assert (known.status_code, others) == (304, [405] * 4)
    _is_sent_on(first) if place.presigned else _is_served(first)


def _is_served(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["etag"], answer.headers["x-content-type-options"]) == (200, f'"{SHA256}"', "nosniff")


def _is_sent_on(answer: httpx.Response) -> None:
    """For as long as the ticket at most, and nobody keeps the address."""
    lasts_s = int(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"][0])
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (307, b"", "no-store")
    assert 0 < lasts_s <= 900


async def test_an_import_taken_by_one_machine_is_judged_by_another(
    migrated_postgres: Settings, start_server: Callable[..., ServerProcess], bucket: Bucket, tmp_path: Path
) -> None:
    """One PostgreSQL, one bucket, a data folder each: this process takes the file and has no worker, the other has one."""
    settings = dataclasses.replace(migrated_postgres, blob_url=bucket.url(tmp_path.name))
    elsewhere = dataclasses.replace(settings, data_dir=tmp_path / "another machine")
    count = settings.import_piece_lines + 2_000
    async with open_house(settings) as house:
        tester = HouseTester(house)
        owner = await tester.owner()
        await tester.product(owner)
        taken = await imported(tester, owner, "\n".join(ids(count)).encode())
        waiting = bucket.names(tmp_path.name)
        await asyncio.to_thread(start_server, elsewhere, **KEYS)
        row = await until(lambda: Import.filter(state=ImportState.FINISHED).first())
        await until(lambda: bucket.names(tmp_path.name) == [])

    assert (taken["state"], taken["processed"], len(waiting)) == ("RUNNING", 0, 1)
    assert (row.total, row.processed, row.added) == (count, count, count)
