"""Updates: what is offered when, how one is followed, and when a device is left in peace."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.firmware import updating
from fleet.firmware.offering import CONSIDER_AGAIN
from models.device import Device, DeviceGroup, GroupMembership
from models.firmware import Firmware, Update
from models.global_ids import global_id
from models.log import LogEntry
from models.operations import Job
from tests.firmware_house import Story, begin, connect, device, entries
from tests.house import HouseTester


@pytest.fixture
async def story(tester: HouseTester) -> Story:
    return await begin(tester)


# ── what is offered when ──
async def test_a_standard_release_waits_for_the_next_hello(story: Story) -> None:
    await story.act("releaseFirmware", version=2)

    assert await story.offer() is None, "online devices are not touched"
    await connect(story.row, datetime.now(UTC))
    offer = await story.offered()

    firmware = await Firmware.get(version=2)
    assert (offer.version, offer.size, offer.sha256, offer.sequence, offer.signature) == (2, firmware.size, firmware.sha256, 1, None)
    assert offer.url.startswith(f"/firmware/{story.row.device_id}/{offer.update_id}/")
    assert timedelta(minutes=14) < offer.expires_at - datetime.now(UTC) <= timedelta(minutes=15)
    assert await entries(kind="status") == [("UPDATE_PROGRESS", story.row.device_id)]
    assert (await story.update())["state"] == "OFFERED"


async def test_an_immediate_release_moves_the_online_one_and_another_one_s_does_not(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    await story.act("createDeviceGroup", name="beta")
    await story.act("releaseFirmware", version=3, group="beta", immediate=True)

    assert await story.offer() is None, "not in the group: the product's release waits for its hello all the same"
    group = (await entries(kind="order"))[0]
    assert group == ("release", None)
    await GroupMembership.create(group=await DeviceGroup.get(path="beta"), device=story.row)
    assert (await story.offered()).version == 3


async def test_the_highest_version_of_several_groups_counts_and_an_older_release_takes_a_device_back(story: Story) -> None:
    for name, version in (("a", 2), ("b", 4), ("c", 3)):
        await story.act("createDeviceGroup", name=name)
        await story.act("releaseFirmware", version=version, group=name)
        await GroupMembership.create(group=await DeviceGroup.get(path=name), device=story.row)

    assert (await story.offered(at_hello=True)).version == 4
    await GroupMembership.filter(group__path="b").delete()
    await story.hello(4)
    assert (await story.offered(at_hello=True)).version == 3, "equality, not newer"


async def test_a_device_that_runs_its_target_is_offered_nothing_and_another_product_s_number_is_not_ours(story: Story) -> None:
    await story.act("releaseFirmware", version=1)
    assert await story.offer(at_hello=True) is None
    assert await Update.all().count() == 0

    await Device.filter(device_id=story.row.device_id).update(proven=False, reported_product_id=6, forced=True)
    assert (await story.offered(at_hello=True)).version == 1


@pytest.mark.parametrize(
    "columns",
    [{"development": True}, {"state": "QUARANTINED"}, {"state": "DENIED"}, {"platform": "ARGON"}, {"reported_product_id": 2000}],
)
async def test_what_may_not_be_moved_is_offered_nothing(story: Story, columns: dict[str, Any]) -> None:
    await story.act("releaseFirmware", version=2)
    await Device.filter(device_id=story.row.device_id).update(**columns)

    assert await story.offer(at_hello=True) is None
    assert await Update.all().count() == 0


async def test_a_lock_is_stronger_than_a_release_and_a_lock_on_reset_waits(story: Story) -> None:
    await story.act("lockAndFlash", firmwareVersion=2, when="ON_RESET", deviceIds=[story.row.device_id])
    await story.act("releaseFirmware", version=4, immediate=True)

    assert await story.offer() is None
    await story.hello(1)
    assert (await story.offered()).version == 2
    await story.hello(2)
    assert await story.offer(at_hello=True) is None, "once it runs the version, no release moves it"
    await story.act("unlockDevices", deviceIds=[story.row.device_id])
    assert (await story.offered()).version == 4


async def test_a_development_device_is_flashed_by_hand_and_by_nothing_else(story: Story) -> None:
    await Device.filter(device_id=story.row.device_id).update(development=True)
    await story.act("lockAndFlash", firmwareVersion=3, when="NOW", deviceIds=[story.row.device_id])

    offer = await story.offered()
    assert offer.version == 3
    await story.says(offer, "INSTALLING")
    await story.hello(3)
    assert (await story.update())["state"] == "SUCCEEDED"
    await story.hello(1)
    assert await story.offer(at_hello=True) is None


async def test_a_device_that_takes_no_updates_now_keeps_its_update_pending(story: Story) -> None:
    await story.act("lockAndFlash", firmwareVersion=2, when="NOW", deviceIds=[story.row.device_id])

    assert await story.offer(enabled=False) is None
    assert (await story.update())["state"] == "PENDING"
    assert (await story.offered()).version == 2
    assert await Update.all().count() == 1


async def test_an_update_that_is_forced_is_offered_although_the_device_puts_updates_off(story: Story) -> None:
    await story.act("releaseFirmware", version=2, immediate=True)
    assert await story.offer(enabled=False) is None
    await story.act("releaseFirmware", version=2, immediate=True, forceUpdates=True)
    released = await story.offer(enabled=False)
    assert released is not None
    assert (released.version, released.forced) == (2, True)

    await story.act("lockAndFlash", firmwareVersion=3, when="NOW", deviceIds=[story.row.device_id])
    assert await story.offer(enabled=False) is None, "a lock has its own word on that"
    await story.act("lockAndFlash", firmwareVersion=4, when="NOW", deviceIds=[story.row.device_id], forceUpdates=True)
    locked = await story.offer(enabled=False)
    assert locked is not None
    assert (locked.version, locked.forced) == (4, True)
    await story.act("unlockDevices", deviceIds=[story.row.device_id])
    assert not (await Device.get(device_id=story.row.device_id)).lock_forces


async def test_what_is_on_its_way_is_not_offered_twice_and_a_newer_decision_takes_its_place(story: Story) -> None:
    await story.act("releaseFirmware", version=2, immediate=True)
    first = await story.offered()
    await story.says(first, "DOWNLOADING", 40)

    assert await story.offer() is None
    await story.act("releaseFirmware", version=3, immediate=True)
    second = await story.offered()

    assert (second.version, second.sequence > first.sequence) == (3, True)
    assert [update.state for update in await Update.all().order_by("id")] == ["CANCELED", "OFFERED"]
    assert await entries(kind="order") == [("release", None), ("release", None), ("cancel", story.row.device_id)]
    await story.says(first, "INSTALLING")
    assert (await Update.get(id=int(first.update_id))).state == "CANCELED", "what it says of a canceled one is ignored"


async def test_of_looks_at_once_one_offers(postgres_tester: HouseTester) -> None:
    story = await begin(postgres_tester)
    await story.act("releaseFirmware", version=2, immediate=True)

    offers = await asyncio.gather(*(story.offer() for _ in range(8)))

    assert len([offer for offer in offers if offer is not None]) == 1
    assert await Update.all().count() == 1
    assert (await Device.get(device_id=story.row.device_id)).update_sequence == 1


# ── following ──
async def test_a_whole_update_is_followed_to_the_hello_that_proves_it(story: Story) -> None:
    await story.act("releaseFirmware", version=2, immediate=True)
    offer = await story.offered()
    for state, progress in (("DOWNLOADING", 0), ("DOWNLOADING", 3), ("DOWNLOADING", 50), ("DOWNLOADING", 20), ("INSTALLING", None)):
        await story.says(offer, state, progress)
    assert ((await story.update())["state"], (await story.update())["progress"]) == ("INSTALLING", 100)

    await story.hello(2)

    update = await story.update()
    assert (update["state"], update["attempt"], update["error"], update["firmware"]["version"]) == ("SUCCEEDED", 1, None, 2)
    assert update["finishedAt"] is not None
    states = [entry.data for entry in await log_entries() if entry.name == "UPDATE_PROGRESS"]
    assert [text.split('"state":"')[1].split('"')[0] for text in states] == [
        "OFFERED", "DOWNLOADING", "DOWNLOADING", "INSTALLING", "SUCCEEDED"
    ]  # fmt: skip


async def log_entries() -> list[Any]:
    return await LogEntry.all().order_by("position")


async def test_what_a_device_says_of_another_s_update_or_of_none_is_ignored(story: Story) -> None:
    await story.act("releaseFirmware", version=2, immediate=True)
    offer = await story.offered()
    stranger = await device(story.product_id, 2, version=1, online=True)

    for device_id, update_id, state in (
        (stranger.device_id, offer.update_id, "FAILED"),
        (story.row.device_id, "999", "FAILED"),
        (story.row.device_id, "٣", "FAILED"),
        (story.row.device_id, "9" * 30, "FAILED"),
        (story.row.device_id, offer.update_id, "SUCCEEDED"),
        (story.row.device_id, offer.update_id, "BLOCKED"),
    ):
        await updating.reported(device_id, update_id, state, None, None, house=story.tester.house)

    assert (await story.update())["state"] == "OFFERED"
    assert await Device.filter(update_failures__gt=0).count() == 0


async def test_one_that_drops_keeps_its_update_and_is_offered_it_again(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    first = await story.offered(at_hello=True)
    await story.says(first, "DOWNLOADING", 50)

    await updating.went_away([story.row.device_id])
    assert (await story.update())["state"] == "PENDING"
    await story.hello(1)
    second = await story.offered(at_hello=True)

    assert (second.update_id, second.sequence) == (first.update_id, first.sequence + 1)
    assert ((await story.update())["attempt"], (await story.update())["progress"]) == (2, 50)


# ── giving up for a while ──
async def test_three_failures_in_a_row_block_it_for_a_day_and_a_person_ends_that(story: Story) -> None:
    await story.act("lockAndFlash", firmwareVersion=2, when="NOW", deviceIds=[story.row.device_id])
    for failure in range(3):
        offer = await story.offered()
        await story.says(offer, "FAILED", error="the hash is wrong")
        assert (await story.update())["state"] == ("FAILED" if failure < 2 else "BLOCKED")

    assert await story.offer(at_hello=True) is None
    update = await story.update()
    assert (update["state"], update["error"]) == ("BLOCKED", "the hash is wrong")
    until = datetime.fromisoformat(update["blockedUntil"])
    assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(hours=24)
    assert (await story.tester.audited())[-1] == "update.blocked"
    due = [job.due_at for job in await Job.filter(kind=CONSIDER_AGAIN).order_by("id")]
    assert [round((at - datetime.now(UTC)).total_seconds() / 60) for at in due] == [1, 2, 24 * 60]
    row = await Device.get(device_id=story.row.device_id)
    assert row.desired_firmware_version == 2, "a lock stays through all of this"

    await story.tester.do("unblockUpdates", "devices { deviceId }", story.owner, deviceIds=[row.device_id])
    assert (await story.offered()).version == 2


async def test_a_block_ends_by_itself(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await Device.filter(device_id=story.row.device_id).update(update_failures=3, update_blocked_until=past)

    assert (await story.offered(at_hello=True)).version == 2
    assert (await Device.get(device_id=story.row.device_id)).update_failures == 0


async def test_coming_back_on_the_old_version_is_a_failure_and_the_third_blocks(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    for _ in range(3):
        offer = await story.offered(at_hello=True)
        await story.says(offer, "INSTALLING")
        await story.hello(1)
        assert (await story.update())["error"] == "The device came back reporting version 1."

    assert await story.offer(at_hello=True) is None
    assert (await story.update())["state"] == "BLOCKED"
    assert await Update.filter(state="FAILED").count() == 2


async def test_a_build_that_reports_itself_and_then_crashes_is_stopped_after_five_attempts(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    for _ in range(5):
        await story.says(await story.offered(at_hello=True), "INSTALLING")
        await story.hello(2)
        await story.hello(1)

    assert await story.offer(at_hello=True) is None
    assert (await Device.get(device_id=story.row.device_id)).update_blocked_until is not None
    assert await Update.all().count() == 5


async def test_what_nobody_finishes_in_time_is_ended(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    await story.offered(at_hello=True)
    house = story.tester.house
    now = datetime.now(UTC)

    assert await updating.expire_stale(house, now + timedelta(minutes=29)) == 0
    assert await updating.expire_stale(house, now + timedelta(minutes=31)) == 1

    assert ((await story.update())["state"], (await Device.get(device_id=story.row.device_id)).update_failures) == ("FAILED", 1)
    await story.offered(at_hello=True)
    await connect(story.row, now, online=False)
    await updating.expire_stale(house, now + timedelta(minutes=31))
    assert (await story.update())["state"] == "PENDING", "a device that is away keeps what it was fetching"
    await updating.consider_again(story.row.device_id)
    assert (await entries(kind="order"))[-1] == ("consider", story.row.device_id)


# ── asking ──
async def test_a_device_says_what_it_should_run_and_why(story: Story) -> None:
    """Through the payload of a mutation; a customer's or stranger's way to it is closed by the device itself."""
    await story.act("releaseFirmware", version=2)
    wanted = """devices { desiredFirmwareVersion firmwareDecision { rule because target { version } }
        update { state firmware { version } } updates(first: 5) { totalCount nodes { attempt } } }"""

    payload = await story.tester.do(
        "lockAndFlash", wanted, story.owner, productId=story.product_id, firmwareVersion=3, when="NOW", deviceIds=[story.row.device_id]
    )
    freed = await story.tester.do("unlockDevices", wanted, story.owner, productId=story.product_id, deviceIds=[story.row.device_id])

    locked, free = payload["devices"][0], freed["devices"][0]
    assert (locked["desiredFirmwareVersion"], locked["firmwareDecision"]["rule"]) == (3, "LOCKED")
    assert locked["firmwareDecision"]["target"] == {"version": 3}
    assert locked["firmwareDecision"]["because"][-1] == "LOCKED: yes, it is locked to version 3."
    assert locked["update"] == {"state": "PENDING", "firmware": {"version": 3}}
    assert (free["firmwareDecision"]["rule"], free["firmwareDecision"]["target"]) == ("PRODUCT_RELEASE", {"version": 2})
    assert (free["update"]["state"], free["updates"]) == ("CANCELED", {"totalCount": 1, "nodes": [{"attempt": 0}]})


async def test_an_update_is_nobody_s_outside_of_the_team(story: Story) -> None:
    await story.act("releaseFirmware", version=2)
    offer = await story.offered(at_hello=True)
    eve = await story.tester.owner("eve", "Other")
    query = "query ($id: ID!) { node(id: $id) { ... on Update { state } } }"
    key = global_id("Update", int(offer.update_id))

    assert await story.tester.ask(query, eve, id=key) == {"node": None}
    assert await story.tester.ask(query, story.owner, id=key) == {"node": {"state": "OFFERED"}}
