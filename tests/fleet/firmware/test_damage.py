"""One wrong byte in the store: the firmware is stopped everywhere at once, everybody can see why, and the same file heals it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from errors import NotFound
from fleet.firmware import damage, downloading, updating
from models.firmware import Firmware, GroupRelease, ProductRelease, Update
from models.log import LogEntry
from models.operations import AuditEntry
from settings import Settings
from tests.firmware_house import Story, begin, binary, device, upload
from tests.house import HouseTester, open_house
from tests.s3 import Bucket

SEEN = """query ($p: Int!) { product(productId: $p) { releasedFirmware { version } firmware(version: 2) {
    releasable notReleasableBecause released damagedAt groups { path } } } }"""
WHY = "The stored file of version 2 is damaged, so nobody is offered it: upload the same file under the same version again."


@pytest.fixture
async def story(tester: HouseTester) -> Story:
    return await begin(tester)


@pytest.fixture(params=["folder", "s3"])
async def stored(request: pytest.FixtureRequest, migrated_sqlite: Settings, tmp_path: Path) -> AsyncIterator[Story]:
    """The story once with its files in a folder, once in a bucket that serves downloads itself."""
    bucket: Bucket | None = request.getfixturevalue("bucket") if request.param == "s3" else None
    settings = dataclasses.replace(migrated_sqlite, blob_url=bucket.url(tmp_path.name) if bucket else "", blob_presigned=bool(bucket))
    async with open_house(settings) as house:
        yield await begin(HouseTester(house))


def flip(story: Story, sha256: str, bucket: Bucket | None = None) -> None:
    """One bit of the stored file, behind the server's back."""
    settings = story.tester.house.settings
    if bucket is None:
        path = settings.data_dir / "blobs" / "firmware" / sha256
        path.write_bytes(_flipped(path.read_bytes()))
    else:
        store = bucket.store(settings.blob_url.partition("fleet/")[2].partition("?")[0])
        store.put(f"firmware/{sha256}", _flipped(bytes(store.get(f"firmware/{sha256}").bytes())))


def _flipped(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


async def seen(story: Story) -> dict[str, Any]:
    product: dict[str, Any] = (await story.tester.ask(SEEN, story.owner, p=story.product_id))["product"]
    return product


async def damaged_version_2(story: Story) -> Firmware:
    firmware = await Firmware.get(version=2)
    flip(story, firmware.sha256)
    assert not await damage.is_sound(firmware, story.tester.house)
    return firmware


async def test_one_flipped_byte_stops_a_released_firmware_everywhere(stored: Story, request: pytest.FixtureRequest) -> None:
    story, house, group = stored, stored.tester.house, "test-group"
    await story.act("createDeviceGroup", name=group)
    await story.act("releaseFirmware", version=2)
    await story.act("releaseFirmware", version=2, group=group)
    offer = await story.offered(at_hello=True)
    *_, device_id, update_id, ticket = offer.url.split("/")
    team_ticket = downloading.download_url(await Firmware.get(version=2), house).rsplit("/", 2)[1:]
    flip(story, offer.sha256, request.getfixturevalue("bucket") if house.settings.blob_url else None)

    with pytest.raises(NotFound):
        await downloading.resolve(device_id, update_id, ticket, now=datetime.now(UTC), house=house)
    with pytest.raises(NotFound):
        await downloading.resolve_for_team(*team_ticket, now=datetime.now(UTC), house=house)
    await story.hello(1)

    assert await story.offer(at_hello=True) is None
    assert (await ProductRelease.all().count(), await GroupRelease.all().count()) == (0, 0)
    assert (await story.update())["state"] == "CANCELED"
    assert [(e.name, e.device_id, e.data) for e in await LogEntry.filter(kind="order", name="cancel")] == [("cancel", device_id, update_id)]
    shown = await seen(story)
    assert shown["releasedFirmware"] is None
    assert shown["firmware"].pop("damagedAt") is not None
    assert shown["firmware"] == {"releasable": False, "notReleasableBecause": WHY, "released": False, "groups": []}
    (entry,) = await AuditEntry.filter(action="firmware.damaged")
    assert (entry.subject, entry.actor) == (f"firmware:{story.product_id}/2", "gateway")
    assert entry.detail == {"sha256": offer.sha256, "withdrawn_from_product": True, "withdrawn_from_groups": [group]}


async def test_what_is_damaged_is_neither_released_nor_flashed(story: Story) -> None:
    await damaged_version_2(story)
    before = await story.tester.audited()

    refused = [
        await story.tester.do("releaseFirmware", "firmware { version }", story.owner, productId=story.product_id, version=2),
        await story.tester.do(
            "lockAndFlash", "devices { deviceId }", story.owner, productId=story.product_id, firmwareVersion=2, when="NOW",
            deviceIds=[story.row.device_id],
        ),
    ]  # fmt: skip

    assert [(error["code"], error["reason"], error["message"]) for payload in refused for error in payload["errors"]] == [
        ("BINARY_INVALID", "DAMAGED", WHY)
    ] * 2
    assert await ProductRelease.all().count() == 0
    assert await story.tester.audited() == before


async def test_other_versions_stay_released_and_offered(story: Story) -> None:
    await story.act("releaseFirmware", version=3)

    await damaged_version_2(story)

    assert (await story.offered(at_hello=True)).version == 3
    assert (await ProductRelease.get()).firmware_id == (await Firmware.get(version=3)).id  # type: ignore[attr-defined]  # a Tortoise column


async def test_a_device_locked_to_it_waits_and_is_flashed_when_the_file_is_back(story: Story) -> None:
    await story.act("lockAndFlash", firmwareVersion=2, when="ON_RESET", deviceIds=[story.row.device_id])
    await damaged_version_2(story)
    await story.hello(1)
    waiting = await story.offer(at_hello=True)

    healed = await upload(story.tester, story.owner, story.product_id, 2)
    orders = await LogEntry.filter(kind="order").order_by("position")
    await story.hello(1)

    assert waiting is None
    assert healed["errors"] == []
    assert (orders[-1].name, orders[-1].device_id) == ("release", None)
    assert (await story.offered(at_hello=True)).version == 2


async def test_it_is_audited_once_however_many_devices_see_it(postgres_tester: HouseTester) -> None:
    story = await begin(postgres_tester)
    ids = [(await device(story.product_id, number, online=True)).device_id for number in range(10, 26)]
    await story.act("releaseFirmware", version=2)
    flip(story, (await Firmware.get(version=2)).sha256)

    offers = await asyncio.gather(
        *(updating.next_offer(each, updates_enabled=True, house=postgres_tester.house, at_hello=True) for each in ids)
    )

    assert offers == [None] * 16
    assert await AuditEntry.filter(action="firmware.damaged").count() == 1
    assert await Update.filter(state__in=["PENDING", "OFFERED"]).count() == 0


async def test_the_same_file_heals_it_and_a_release_is_asked_for_anew(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    firmware = await damaged_version_2(story)

    healed = await upload(story.tester, story.owner, story.product_id, 2, title="Whatever it is called now")

    assert healed["errors"] == []
    assert healed["firmware"]["title"] == "Version 2"
    assert await story.tester.house.blobs.verify(firmware.sha256)
    assert (await story.tester.audited())[-1] == "firmware.healed"
    shown = await seen(story)
    assert (shown["firmware"]["damagedAt"], shown["firmware"]["releasable"], shown["releasedFirmware"]) == (None, True, None)
    await story.act("releaseFirmware", version=2)
    assert (await story.offered(at_hello=True)).version == 2


async def test_any_other_file_under_its_version_is_refused_and_nothing_changes(story: Story) -> None:
    firmware = await damaged_version_2(story)
    before = await story.tester.audited()

    payload = await upload(story.tester, story.owner, story.product_id, 2, binary(story.product_id, 2, size=99))

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("BINARY_MISMATCH", "DIGEST_MISMATCH")]
    assert (await Firmware.get(id=firmware.id)).damaged_at is not None
    assert not await story.tester.house.blobs.verify(firmware.sha256)
    assert await story.tester.audited() == before


async def test_a_file_that_an_operator_brings_back_is_found(story: Story) -> None:
    firmware = await Firmware.get(version=2)
    path = story.tester.house.settings.data_dir / "blobs" / "firmware" / firmware.sha256
    content = path.read_bytes()
    path.unlink()
    assert not await damage.is_sound(firmware, story.tester.house)

    early = await damage.look_again(story.tester.house)
    path.write_bytes(content)
    late = await damage.look_again(story.tester.house)

    assert (early, late) == (0, 1)
    assert (await Firmware.get(version=2)).damaged_at is None
    assert [action for action in await story.tester.audited() if "damaged" in action or "healed" in action] == [
        "firmware.damaged",
        "firmware.healed",
    ]
