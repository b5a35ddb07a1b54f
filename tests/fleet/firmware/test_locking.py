"""Locks: now, on reset, by group; what is refused changes nothing; and letting go."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from models.device import Device, DeviceGroup, GroupMembership
from models.firmware import Update
from models.log import LogEntry
from models.operations import AuditEntry
from models.product import Product
from models.sql import execute
from tests.firmware_house import device, entries, uploaded
from tests.house import HouseTester

ANSWER = "devices { deviceId desiredFirmwareVersion update { state } } rejected { deviceId code message }"


async def test_now_locks_what_is_online_and_leaves_the_offline_as_they_are(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    online, offline = await device(product_id, 1, online=True), await device(product_id, 2, online=False)

    payload = await tester.do(
        "lockAndFlash", ANSWER, owner, productId=product_id, firmwareVersion=2, when="NOW", deviceIds=[offline.device_id, online.device_id]
    )

    assert payload["errors"] == []
    assert payload["devices"] == [{"deviceId": online.device_id, "desiredFirmwareVersion": 2, "update": {"state": "PENDING"}}]
    assert [(each["deviceId"], each["code"]) for each in payload["rejected"]] == [(offline.device_id, "DEVICE_OFFLINE")]
    assert (await Device.get(device_id=offline.device_id)).desired_firmware_version is None
    assert await Update.all().count() == 1
    assert await entries(kind="status") == [("LOCKED", online.device_id)]
    assert await entries(kind="order") == [("consider", online.device_id)]
    assert (await tester.audited())[-1] == "device.locked"


async def test_if_every_device_is_refused_that_is_the_error_and_nothing_changes(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    offline = await device(product_id, 1, online=False)
    before = await tester.audited()

    payload = await tester.do(
        "lockAndFlash", ANSWER, owner, productId=product_id, firmwareVersion=2, when="NOW", deviceIds=[offline.device_id]
    )

    assert [error["code"] for error in payload["errors"]] == ["DEVICE_OFFLINE"]
    assert [each["code"] for each in payload["rejected"]] == ["DEVICE_OFFLINE"]
    assert payload["devices"] is None
    assert (await Device.get(device_id=offline.device_id)).desired_firmware_version is None
    assert await tester.audited() == before
    assert await entries(kind="status") == []


async def test_on_reset_locks_devices_that_are_away_and_offers_nothing_yet(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    rows = [await device(product_id, 1, online=False), await device(product_id, 2, online=True), await device(product_id, 3, version=None)]

    payload = await tester.do(
        "lockAndFlash", ANSWER, owner, productId=product_id, firmwareVersion=2, when="ON_RESET", deviceIds=[row.device_id for row in rows]
    )

    assert [each["update"] for each in payload["devices"]] == [None, None, None]
    assert await Device.filter(desired_firmware_version=2, lock_waits=True).count() == 3
    assert [name for name, _ in await entries(kind="status")] == ["LOCKED"] * 3
    assert await entries(kind="order") == []


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"state": "QUARANTINED"}, "INVALID_INPUT"),
        ({"reported_product_id": 2000}, "INVALID_INPUT"),
        ({"platform": "ARGON"}, "INVALID_INPUT"),
    ],
)
async def test_a_device_that_may_have_no_firmware_is_refused(tester: HouseTester, columns: dict[str, object], code: str) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    now = datetime.now(UTC)
    row = await device(product_id, 1, version=None, online=True, **{"reported_product_id": product_id, "platform": "PHOTON"} | columns)

    payload = await tester.do("lockAndFlash", ANSWER, owner, productId=product_id, firmwareVersion=2, when="NOW", deviceIds=[row.device_id])

    assert [each["code"] for each in payload["rejected"]] == [code]
    assert (await Device.get(device_id=row.device_id)).desired_firmware_version is None
    assert row.created_at >= now


async def test_another_product_s_device_an_unknown_one_and_an_unknown_version_are_not_found(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id, other = await tester.product(owner), await tester.product(owner, "Other")
    await uploaded(tester, owner, product_id, 2)
    foreign, mine = await device(other, 1, online=True), await device(product_id, 2, online=True)
    same = {"productId": product_id, "when": "ON_RESET"}

    some = await tester.do(
        "lockAndFlash", ANSWER, owner, **same, firmwareVersion=2, deviceIds=[foreign.device_id, "f" * 24, mine.device_id.upper()]
    )
    version = await tester.do("lockAndFlash", ANSWER, owner, **same, firmwareVersion=3, deviceIds=[mine.device_id])
    neither = await tester.do("lockAndFlash", ANSWER, owner, **same, firmwareVersion=2)
    many = await tester.do("lockAndFlash", ANSWER, owner, **same, firmwareVersion=2, deviceIds=[f"{n:024x}" for n in range(251)])

    assert [each["deviceId"] for each in some["devices"]] == [mine.device_id]
    assert sorted((each["deviceId"], each["code"]) for each in some["rejected"]) == [
        (foreign.device_id, "NOT_FOUND"),
        ("f" * 24, "NOT_FOUND"),
    ]
    assert [(error["code"], error["path"]) for error in version["errors"]] == [("NOT_FOUND", ["input", "firmwareVersion"])]
    assert [error["code"] for error in neither["errors"] + many["errors"]] == ["INVALID_INPUT", "INVALID_INPUT"]
    assert (await Device.get(device_id=foreign.device_id)).desired_firmware_version is None


async def test_a_group_locks_its_devices_and_those_of_groups_inside_it_once_each(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    rows = [await device(product_id, number, online=True) for number in range(4)]
    for name, parent in (("a_b", None), ("axb", None), ("in", "a_b")):
        given = {"parent": parent} if parent else {}
        await tester.do("createDeviceGroup", "group { id }", owner, productId=product_id, name=name, **given)
    groups = {group.path: group.id for group in await DeviceGroup.all()}
    for path, number in (("a_b", 0), ("a_b/in", 0), ("a_b/in", 1), ("axb", 2)):
        await GroupMembership.create(group_id=groups[path], device_id=rows[number].device_id)

    payload = await tester.do("lockAndFlash", ANSWER, owner, productId=product_id, firmwareVersion=2, when="NOW", group="a_b")

    assert [each["deviceId"] for each in payload["devices"]] == [rows[0].device_id, rows[1].device_id]
    assert await Device.filter(desired_firmware_version=2).count() == 2


async def test_a_group_of_ten_thousand_devices_is_flashed_and_let_go_in_one_call_each(postgres_tester: HouseTester) -> None:
    tester, count = postgres_tester, 10_000
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    for name, parent in (("fleet", None), ("north", "fleet")):
        await tester.do("createDeviceGroup", "group { path }", owner, productId=product_id, name=name, parent=parent)
    await a_fleet(product_id, count, "fleet/north")
    target = {"productId": product_id, "group": "fleet"}

    locked = await tester.do("lockAndFlash", "devices { deviceId } rejected { code }", owner, **target, firmwareVersion=2, when="NOW")
    under_way = await Update.filter(state="PENDING").count()
    unlocked = await tester.do("unlockDevices", "devices { deviceId } rejected { code }", owner, **target)

    assert [payload["errors"] + payload["rejected"] for payload in (locked, unlocked)] == [[], []]
    assert len({each["deviceId"] for each in locked["devices"]}) == len({each["deviceId"] for each in unlocked["devices"]}) == count
    assert under_way == count
    assert await Device.filter(desired_firmware_version=2).count() == 0
    assert await AuditEntry.filter(action="device.locked").count() == 1
    said = Counter(await LogEntry.filter(kind="status").values_list("name", flat=True))
    assert (said["LOCKED"], said["UNLOCKED"]) == (count, count)


async def a_fleet(product_id: int, count: int, path: str) -> None:
    """Devices that are online and run version 1, all in one group."""
    product, group, now = await Product.get(number=product_id), await DeviceGroup.get(path=path), datetime.now(UTC)
    await execute(
        "INSERT INTO device (device_id, product_id, platform, reported_product_id, firmware_version, proven, created_at)"
        " SELECT lpad(to_hex(n), 24, '0'), $1, 'PHOTON', $2, 1, TRUE, $3 FROM generate_series(1, $4::int) AS n",
        [product.id, product_id, now, count],
    )
    await execute("INSERT INTO group_membership (group_id, device_id) SELECT $1, device_id FROM device", [group.id])
    await execute(
        "INSERT INTO presence (device_id, online, epoch, last_heard, last_handshake_at, connects_since, connects)"
        " SELECT device_id, TRUE, 1, $1, $1, $1, 1 FROM device",
        [now],
    )


async def test_another_lock_cancels_the_update_to_the_first_version(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2, 3)
    row = await device(product_id, 1, online=True)
    same = {"productId": product_id, "deviceIds": [row.device_id], "when": "NOW"}
    await tester.do("lockAndFlash", ANSWER, owner, **same, firmwareVersion=2)
    await Update.all().update(state="DOWNLOADING")

    await tester.do("lockAndFlash", ANSWER, owner, **same, firmwareVersion=3)

    states = [(update.firmware.version, update.state) for update in await Update.all().order_by("id").select_related("firmware")]
    assert states == [(2, "CANCELED"), (3, "PENDING")]
    assert [name for name, _ in await entries(kind="order")] == ["consider", "cancel", "consider"]


async def test_unlocking_lets_go_and_cancels_what_was_on_offer(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    row, free = await device(product_id, 1, online=True), await device(product_id, 2, online=True)
    same = {"productId": product_id, "deviceIds": [row.device_id, free.device_id]}
    await tester.do("lockAndFlash", ANSWER, owner, productId=product_id, deviceIds=[row.device_id], when="NOW", firmwareVersion=2)
    await Update.all().update(state="OFFERED")

    payload = await tester.do("unlockDevices", ANSWER, owner, **same)
    again = await tester.do("unlockDevices", ANSWER, owner, **same)

    assert payload["errors"] == again["errors"] == []
    assert [each["desiredFirmwareVersion"] for each in payload["devices"]] == [None, None]
    assert (await Update.get()).state == "CANCELED"
    assert await entries(kind="status") == [("LOCKED", row.device_id), ("UNLOCKED", row.device_id)]
    assert [name for name, _ in await entries(kind="order")] == ["consider", "cancel", "consider"]
    assert (await tester.audited()).count("device.unlocked") == 1, "what changed nothing is not recorded"


async def test_unblocking_counts_failures_from_nothing_and_keeps_the_lock(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    product_id = await tester.product(owner)
    (firmware,) = await uploaded(tester, owner, product_id, 2)
    now = datetime.now(UTC)
    row = await device(
        product_id, 1, online=True, desired_firmware_version=2, update_failures=3, update_blocked_until=now + timedelta(hours=20)
    )
    await Update.create(device=row, firmware=firmware, state="BLOCKED", started_at=now, finished_at=now)

    stranger = await tester.do("unblockUpdates", ANSWER, eve, deviceIds=[row.device_id])
    payload = await tester.do("unblockUpdates", ANSWER, owner, deviceIds=[row.device_id, "f" * 24])

    assert [error["code"] for error in stranger["errors"]] == ["NOT_FOUND"]
    assert [each["desiredFirmwareVersion"] for each in payload["devices"]] == [2]
    assert [each["code"] for each in payload["rejected"]] == ["NOT_FOUND"]
    fresh = await Device.get(device_id=row.device_id)
    assert (fresh.update_failures, fresh.update_blocked_until) == (0, None)
    assert (await Update.get()).state == "FAILED"
    assert await entries(kind="order") == [("consider", row.device_id)]


async def test_locks_set_at_once_leave_one_version_and_one_open_update(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, *range(2, 10))
    ids = [(await device(product_id, number, online=True)).device_id for number in range(10)]

    answers = await asyncio.gather(
        *(
            tester.do(
                "lockAndFlash", ANSWER, owner, productId=product_id, deviceIds=ids[::-1] if v % 2 else ids, when="NOW", firmwareVersion=v
            )
            for v in range(2, 10)
        )
    )

    assert [answer["errors"] for answer in answers] == [[]] * 8
    for row in await Device.all():
        (update,) = await Update.filter(device_id=row.device_id, state="PENDING").select_related("firmware")
        assert update.firmware.version == row.desired_firmware_version


async def test_locking_again_to_the_same_version_leaves_what_is_on_its_way(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 2)
    row = await device(product_id, 1, online=True)
    same = {"productId": product_id, "deviceIds": [row.device_id], "when": "NOW", "firmwareVersion": 2}
    await tester.do("lockAndFlash", ANSWER, owner, **same)
    await Update.all().update(state="DOWNLOADING", by_hand=False)

    await tester.do("lockAndFlash", ANSWER, owner, **same)

    update = await Update.get()
    assert (update.state, update.by_hand) == ("DOWNLOADING", True)
    assert [name for name, _ in await entries(kind="order")] == ["consider", "consider"]
