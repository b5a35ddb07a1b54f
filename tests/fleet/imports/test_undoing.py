"""Taking an import back."""

import io
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import UploadFile

from models.account import User
from models.device import Device, DeviceGroup, GroupMembership, Presence
from models.importing import Import
from models.log import LogEntry
from models.product import Product
from tests.house import HouseTester

IMPORT = "import { id state added undoneAt }"
NOW = datetime.now(UTC)


def ids(count: int) -> list[str]:
    return [f"{number:024x}" for number in range(1, count + 1)]


async def imported(tester: HouseTester, token: str, listed: list[str], **options: Any) -> Any:
    file = UploadFile(io.BytesIO("\n".join(listed).encode()))
    payload = await tester.do("importDevices", IMPORT, token, productId=1000, file=file, **options)
    assert payload["errors"] == []
    return payload["import"]


async def fleet() -> Any:
    devices = [dict(row) for row in await Device.all().order_by("device_id").values()]
    return devices, sorted(await GroupMembership.all().values_list("device_id", "group_id"))


async def a_mixed_fleet(tester: HouseTester) -> tuple[str, list[str]]:
    """Two new ids, a member, and devices that an import would take from elsewhere."""
    owner = await tester.owner()
    lamp, fan = await tester.product(owner), await tester.product(owner, "Fan")
    ours, theirs = await Product.get(number=lamp), await Product.get(number=fan)
    here = await DeviceGroup.create(product=ours, name="here", path="here", created_at=NOW)
    there = await DeviceGroup.create(product=theirs, name="there", path="there", created_at=NOW)
    listed = ids(7)
    await Device.create(device_id=listed[2], product=ours, created_at=NOW, reported_product_id=6)
    lock = {"desired_firmware_version": 3, "lock_waits": True, "lock_forces": True}
    marks = {**lock, "development": True, "notes": "theirs", "name": "Old", "proven": True}
    away = await Device.create(device_id=listed[3], product=theirs, state="DENIED", created_at=NOW, **marks)
    await GroupMembership.create(group=there, device=away)
    await Device.create(device_id=listed[4], created_at=NOW, user_owner=await User.get(email="ann@example.com"), name="Mine")
    await Device.create(device_id=listed[5], created_at=NOW, removed_from=theirs)
    waiting = await Device.create(device_id=listed[6], product=ours, state="QUARANTINED", created_at=NOW)
    await GroupMembership.create(group=here, device=waiting)
    return owner, listed


async def test_undo_restores_the_exact_former_state(tester: HouseTester) -> None:
    owner, listed = await a_mixed_fleet(tester)
    before = await fleet()
    answer = await imported(tester, owner, listed, force=True, group="here")
    assert answer["added"] == 6
    assert await GroupMembership.all().count() == 7

    payload = await tester.do("undoImport", IMPORT, owner, importId=answer["id"])

    assert payload["errors"] == []
    assert payload["import"]["state"] == "UNDONE"
    assert payload["import"]["undoneAt"] is not None
    assert await fleet() == before
    said = [
        (entry.kind, entry.name, entry.device_id) for entry in await LogEntry.filter(name__in=["close", "REMOVED"]).order_by("position")
    ]
    assert [entry for entry in said if entry[0] == "order"] == [("order", "close", listed[place]) for place in (3, 4, 5, 6)]
    assert sorted(entry[2] for entry in said if entry[0] == "status") == sorted(listed[:2] + listed[3:])


async def test_undoing_again_changes_nothing(tester: HouseTester) -> None:
    owner, listed = await a_mixed_fleet(tester)
    answer = await imported(tester, owner, listed)
    await tester.do("undoImport", IMPORT, owner, importId=answer["id"])
    await imported(tester, owner, listed)
    before, audited = await fleet(), await tester.audited()

    payload = await tester.do("undoImport", IMPORT, owner, importId=answer["id"])

    assert (payload["errors"], payload["import"]["state"]) == ([], "UNDONE")
    assert (await fleet(), await tester.audited()) == (before, audited)


async def test_what_was_used_since_stays(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    unused, connected, keyed, named = ids(4)
    answer = await imported(tester, owner, [unused, connected, keyed, named])
    times = {"last_heard": NOW, "last_handshake_at": NOW, "connects_since": NOW}
    await Presence.create(device=await Device.get(device_id=connected), online=False, epoch=1, connects=1, **times)
    await tester.do("registerDevice", "secret", owner, deviceId=keyed)
    await tester.do("updateDevice", "device { name }", owner, deviceId=named, name="Porch")

    await tester.do("undoImport", IMPORT, owner, importId=answer["id"])

    assert sorted(await Device.all().values_list("device_id", flat=True)) == [connected, keyed]


async def test_a_device_that_moved_on_since_is_not_brought_back(tester: HouseTester) -> None:
    owner, listed = await a_mixed_fleet(tester)
    answer = await imported(tester, owner, listed)
    await tester.do("removeDevices", "removed", owner, deviceIds=[listed[3]])
    before = await Device.get(device_id=listed[3]).values()

    await tester.do("undoImport", IMPORT, owner, importId=answer["id"])

    assert await Device.get(device_id=listed[3]).values() == before


async def test_a_dry_run_and_a_running_import_cannot_be_undone(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    dry, running = await imported(tester, owner, ids(2), dryRun=True), await imported(tester, owner, ids(2))
    await Import.filter(dry_run=False).update(state="RUNNING")
    audited = await tester.audited()

    answers = [await tester.do("undoImport", IMPORT, owner, importId=each["id"]) for each in (dry, running)]

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["INVALID_INPUT", "INVALID_INPUT"]
    assert (await Device.all().count(), await tester.audited()) == (2, audited)
