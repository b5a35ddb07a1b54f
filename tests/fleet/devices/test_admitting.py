"""Who is let into a product, and who is removed from it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.devices import removing
from models.account import User
from models.customer import Customer
from models.device import Device, GroupMembership
from models.firmware import Firmware, Update
from models.log import LogEntry
from models.product import Product
from tests.house import HouseTester

DEVICES = "devices { deviceId state }"
REMOVED = "removed rejected { deviceId code message }"
NOW = datetime.now(UTC)


def ids(count: int) -> list[str]:
    return [f"{number:024x}" for number in range(1, count + 1)]


async def a_fleet(tester: HouseTester, *states: str) -> tuple[str, list[str]]:
    owner = await tester.owner()
    product = await Product.get(number=await tester.product(owner))
    listed = ids(len(states))
    for device_id, state in zip(listed, states, strict=True):
        await Device.create(device_id=device_id, product=product, state=state, created_at=NOW)
    return owner, listed


async def said() -> list[tuple[Any, ...]]:
    return [(entry.kind, entry.name, entry.device_id, entry.data) for entry in await LogEntry.all().order_by("position")]


async def states() -> list[str]:
    return [device.state for device in await Device.all().order_by("device_id")]


# ── approving and denying ──
async def test_approved_devices_are_members_and_looked_at_again(tester: HouseTester) -> None:
    owner, listed = await a_fleet(tester, "QUARANTINED", "DENIED", "ACTIVE")

    payload = await tester.do("approveDevices", DEVICES, owner, deviceIds=listed)

    assert payload["errors"] == []
    assert payload["devices"] == [{"deviceId": each, "state": "ACTIVE"} for each in listed]
    assert await states() == ["ACTIVE"] * 3
    assert await said() == [
        ("status", "ADDED", listed[0], None),
        ("order", "consider", listed[0], None),
        ("status", "ADDED", listed[1], None),
        ("order", "consider", listed[1], None),
    ]
    assert (await tester.audited())[-1] == "device.approved"


async def test_denied_devices_stay_listed_and_their_sessions_end(tester: HouseTester) -> None:
    owner, listed = await a_fleet(tester, "QUARANTINED", "ACTIVE", "DENIED")

    payload = await tester.do("denyDevices", DEVICES, owner, deviceIds=listed)

    assert payload["errors"] == []
    assert await states() == ["DENIED"] * 3
    assert await said() == [("order", "close", listed[0], "4403"), ("order", "close", listed[1], "4403")]
    assert (await tester.audited())[-1] == "device.denied"


@pytest.mark.parametrize("mutation", ["approveDevices", "denyDevices"])
async def test_one_foreign_id_refuses_all_with_its_place(tester: HouseTester, mutation: str) -> None:
    owner, listed = await a_fleet(tester, "QUARANTINED", "QUARANTINED")
    eve = await tester.owner("eve", "Other")
    foreign = await Product.get(number=await tester.product(eve, "Fan", organization="other"))
    theirs = await Device.create(device_id="f" * 24, product=foreign, state="QUARANTINED", created_at=NOW)
    audited = await tester.audited()

    payload = await tester.do(mutation, DEVICES, owner, deviceIds=[*listed, theirs.device_id])

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("NOT_FOUND", ["input", "deviceIds", "2"])]
    assert (payload["devices"], await states(), await said()) == (None, ["QUARANTINED"] * 3, [])
    assert await tester.audited() == audited


@pytest.mark.parametrize("mutation", ["approveDevices", "denyDevices"])
@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT"])
async def test_below_developer_nobody_admits(tester: HouseTester, mutation: str, role: str) -> None:
    owner, listed = await a_fleet(tester, "QUARANTINED")
    bob = await tester.member(owner, "bob", role)

    payload = await tester.do(mutation, DEVICES, bob, deviceIds=listed)

    assert [error["code"] for error in payload["errors"]] == ["FORBIDDEN"]
    assert (await states(), await said()) == (["QUARANTINED"], [])


@pytest.mark.parametrize("mutation", ["approveDevices", "denyDevices"])
async def test_a_call_takes_1_to_250_devices(tester: HouseTester, mutation: str) -> None:
    owner, _ = await a_fleet(tester)

    answers = [await tester.do(mutation, DEVICES, owner, deviceIds=listed) for listed in ([], ids(251))]

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["INVALID_INPUT", "INVALID_INPUT"]


# ── removing ──
async def test_a_removed_device_leaves_everything_of_the_product_behind(tester: HouseTester) -> None:
    owner, (device_id, kit) = await a_fleet(tester, "ACTIVE", "ACTIVE")
    product, ann = await Product.get(number=1000), await User.get(email="ann@example.com")
    await Device.all().update(desired_firmware_version=2, forced=True, development=True, name="Porch", notes="n", update_failures=2)
    await Device.filter(device_id=kit).update(user_owner=ann)
    group = await tester.do("createDeviceGroup", "group { id }", owner, productId=1000, name="emea")
    await tester.do("addDevicesToGroup", "group { path }", owner, groupId=group["group"]["id"], deviceIds=[device_id])
    what = {
        "version": 2,
        "title": "t",
        "title_key": "t",
        "format": "OPAQUE",
        "verified": False,
        "file_name": "f",
        "size": 1,
        "sha256": "0" * 64,
    }
    firmware = await Firmware.create(product=product, uploaded_at=NOW, **what)
    update = await Update.create(device=await Device.get(device_id=device_id), firmware=firmware, state="OFFERED", started_at=NOW)

    payload = await tester.do("removeDevices", REMOVED, owner, deviceIds=[device_id.upper(), kit])

    assert payload == {"removed": [device_id, kit], "rejected": [], "errors": []}
    gone, own = await Device.get(device_id=device_id), await Device.get(device_id=kit)
    for each in (gone, own):
        assert (each.product_id, each.removed_from_id, each.state) == (None, product.id, "ACTIVE")  # type: ignore[attr-defined]
        assert (each.desired_firmware_version, each.forced, each.development, each.update_failures) == (None, False, False, 0)
    assert (gone.name, gone.notes, own.name, own.notes) == (None, None, "Porch", "n")
    assert await GroupMembership.all().count() == 0
    assert (await Update.get(id=update.id)).state == "CANCELED"
    assert await said() == [
        ("status", "REMOVED", device_id, None),
        ("status", "REMOVED", kit, None),
        ("order", "close", device_id, "4403"),
        ("order", "close", kit, "4403"),
    ]
    assert (await tester.audited())[-1] == "device.removed"
    assert (await tester.ask("{ viewer { devices { nodes { deviceId name } } } }", owner))["viewer"]["devices"]["nodes"] == [
        {"deviceId": kit, "name": "Porch"}
    ]


async def test_claimed_and_foreign_devices_are_rejected_and_the_rest_is_done(tester: HouseTester) -> None:
    owner, (claimed, free) = await a_fleet(tester, "ACTIVE", "ACTIVE")
    product = await Product.get(number=1000)
    carl = await Customer.create(product=product, username="carl", username_key="carl", created_at=NOW)
    await Device.filter(device_id=claimed).update(owner=carl)
    eve = await tester.owner("eve", "Other")
    foreign = await Product.get(number=await tester.product(eve, "Fan", organization="other"))
    await Device.create(device_id="f" * 24, product=foreign, created_at=NOW)
    before = await Device.filter(device_id__in=[claimed, "f" * 24]).order_by("device_id").values()

    payload = await tester.do("removeDevices", REMOVED, owner, deviceIds=["f" * 24, claimed, free, "e" * 24])

    assert (payload["removed"], payload["errors"]) == ([free], [])
    assert sorted((each["deviceId"], each["code"]) for each in payload["rejected"]) == [
        (claimed, "DEVICE_ALREADY_CLAIMED"),
        ("e" * 24, "NOT_FOUND"),
        ("f" * 24, "NOT_FOUND"),
    ]
    assert await Device.filter(device_id__in=[claimed, "f" * 24]).order_by("device_id").values() == before


async def test_when_nothing_can_be_removed_the_errors_say_so(tester: HouseTester) -> None:
    owner, listed = await a_fleet(tester, "ACTIVE")
    bob = await tester.member(owner, "bob", "SUPPORT")
    audited = await tester.audited()

    payload = await tester.do("removeDevices", REMOVED, bob, deviceIds=[*listed, "f" * 24])

    assert sorted(error["code"] for error in payload["errors"]) == ["FORBIDDEN", "NOT_FOUND"]
    assert (await Device.filter(product__number=1000).count(), await said(), await tester.audited()) == (1, [], audited)


async def test_a_claim_between_the_check_and_the_write_wins(tester: HouseTester, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, (device_id,) = await a_fleet(tester, "ACTIVE")
    carl = await Customer.create(product=await Product.get(number=1000), username="carl", username_key="carl", created_at=NOW)
    await Device.all().update(owner=carl)
    before, audited = await Device.all().values(), await tester.audited()
    monkeypatch.setattr(removing, "_require_removable", lambda device: None)  # what was checked is no longer so

    payload = await tester.do("removeDevices", REMOVED, owner, deviceIds=[device_id])

    assert [(each["deviceId"], each["code"]) for each in payload["rejected"]] == [(device_id, "NOT_FOUND")]
    assert (await Device.all().values(), await said(), await tester.audited()) == (before, [], audited)


async def test_of_a_removal_and_a_claim_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner, listed = await a_fleet(tester, *["ACTIVE"] * 20)
    made = await tester.do("createCustomer", "customer { id }", owner, productId=1000, username="carl")
    for device_id in listed:
        removed, assigned = await asyncio.gather(
            tester.do("removeDevices", REMOVED, owner, deviceIds=[device_id]),
            tester.do("assignDevice", "device { deviceId }", owner, deviceId=device_id, customerId=made["customer"]["id"]),
        )

        device: Any = await Device.get(device_id=device_id)
        assert (device.product_id is None) != (device.owner_id is not None)
        assert (removed["removed"] == [device_id]) == (device.product_id is None)
        assert (assigned["errors"] == []) == (device.owner_id is not None)
