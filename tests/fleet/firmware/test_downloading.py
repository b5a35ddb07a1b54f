"""Firmware files behind signed URLs: for one device and one update, and for the team."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.firmware import downloading
from tests.firmware_house import Story, begin
from tests.house import HouseTester


@pytest.fixture
async def story(tester: HouseTester) -> Story:
    return await begin(tester)


async def test_a_ticket_is_good_for_one_device_one_update_and_a_while(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    offer, house, now = await story.offered(at_hello=True), story.tester.house, datetime.now(UTC)
    *_, device_id, update_id, ticket = offer.url.split("/")

    file = await downloading.resolve(device_id, update_id, ticket, now=now, house=house)
    content = b"".join([chunk async for chunk in file.read_range(0, file.size)])

    assert (file.size, file.sha256, len(content)) == (offer.size, offer.sha256, offer.size)
    for wrong in (
        ("f" * 24, update_id, ticket, now),
        (device_id, str(int(update_id) + 1), ticket, now),
        (device_id, update_id, ticket[:-1], now),
        (device_id, update_id, ticket, now + timedelta(minutes=16)),
    ):
        with pytest.raises(downloading.NotFound):
            await downloading.resolve(wrong[0], wrong[1], wrong[2], now=wrong[3], house=house)
    await story.act("withdrawRelease")
    assert await story.offer(at_hello=True) is None
    with pytest.raises(downloading.NotFound):
        await downloading.resolve(device_id, update_id, ticket, now=now, house=house)


async def test_the_team_fetches_a_file_by_a_url_of_its_own(story: Story) -> None:
    query = "query ($p: Int!) { product(productId: $p) { firmware(version: 2) { downloadUrl size } } }"
    shown = (await story.tester.ask(query, story.owner, p=story.product_id))["product"]["firmware"]
    host, house, now = story.tester.house.settings.public_url, story.tester.house, datetime.now(UTC)
    *_, firmware_id, ticket = shown["downloadUrl"].removeprefix(host).split("/")

    file = await downloading.resolve_for_team(firmware_id, ticket, now=now, house=house)

    assert shown["downloadUrl"].startswith(f"{host}/firmware/download/")
    assert (file.size, file.file_name) == (shown["size"], "lamp.bin")
    with pytest.raises(downloading.NotFound):
        await downloading.resolve_for_team(str(int(firmware_id) + 1), ticket, now=now, house=house)
    with pytest.raises(downloading.NotFound):
        await downloading.resolve("download", firmware_id, ticket, now=now, house=house)
