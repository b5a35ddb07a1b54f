"""Imports: one verdict a line, good lines added whatever the others are, the same end however often it is tried."""

from datetime import UTC, datetime
from typing import Any

import pytest

from models.account import User
from models.customer import Customer
from models.device import Device, DeviceState, GroupMembership
from models.importing import Import
from models.log import LogEntry
from models.operations import AuditEntry
from models.product import Product
from tests.house import HouseTester
from tests.imports import IMPORT, ROWS, ids, imported, verdicts


async def state_of_the_fleet() -> list[dict[str, Any]]:
    return [dict(row) for row in await Device.all().order_by("device_id").values()]


async def test_good_lines_are_added_even_if_others_fail(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    first, second, third = "55FF6D04498B49AABBCCDD01", *ids(2)
    text = f"\ufeff{first}\r\n\r\n  {second}  \nnot an id\n{first.lower()}\r{third}".encode()

    answer = await imported(tester, owner, text)

    assert (answer["state"], answer["total"], answer["processed"], answer["added"]) == ("FINISHED", 5, 5, 3)
    assert answer["rejected"] == {
        "totalCount": 2,
        "nodes": [
            {"line": 4, "text": "not an id", "deviceId": None, "verdict": "INVALID_ID"},
            {"line": 5, "text": first.lower(), "deviceId": first.lower(), "verdict": "DUPLICATE_LINE"},
        ],
    }
    rows = (await tester.ask(ROWS, owner, id=answer["id"]))["node"]["rows"]
    assert rows["totalCount"] == 5
    assert [(row["line"], row["text"], row["verdict"]) for row in rows["nodes"]] == [
        (1, first, "ADDED"),
        (3, f"  {second}  ", "ADDED"),
        (4, "not an id", "INVALID_ID"),
        (5, first.lower(), "DUPLICATE_LINE"),
        (6, third, "ADDED"),
    ]
    added = await Device.all().order_by("device_id").select_related("product")
    assert [(device.device_id, device.product.number, device.state, device.forced) for device in added] == [
        (second, 1000, "ACTIVE", False),
        (third, 1000, "ACTIVE", False),
        (first.lower(), 1000, "ACTIVE", False),
    ]


async def test_what_is_no_file_is_refused_and_imports_nothing(tester: HouseTester) -> None:
    """It was an error of ours: only firmware's door looked."""
    owner = await tester.owner()
    await tester.product(owner)
    before = await tester.audited()

    devices = await tester.do("importDevices", IMPORT, owner, productId=1000, file=ids(1)[0])
    customers = await tester.do("importCustomers", "created { activationCode }", owner, productId=1000, file="ada@example.com")

    for payload in (devices, customers):
        assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "file"])]
    assert (await Device.all().count(), await Customer.all().count(), await Import.all().count()) == (0, 0, 0)
    assert await tester.audited() == before


async def test_the_same_import_again_changes_nothing(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    text = "\n".join(ids(5)).encode()
    await imported(tester, owner, text)
    before = await state_of_the_fleet()
    entries = await LogEntry.all().count()

    again = await imported(tester, owner, text)

    assert (again["state"], again["total"], again["added"], again["rejected"]["totalCount"]) == ("FINISHED", 5, 0, 0)
    assert [verdict for _, verdict in await verdicts(tester, owner, again["id"])] == ["ALREADY_MEMBER"] * 5
    assert await state_of_the_fleet() == before
    assert await LogEntry.all().count() == entries


async def test_whoever_owns_a_device_decides_whether_it_can_be_taken(tester: HouseTester) -> None:
    """Nobody's, a member's and a stranger's kit; devices of another product in each state; a customer's; other hardware."""
    owner, _ = await tester.owner(), await tester.person("eve")
    lamp, fan = await tester.product(owner), await tester.product(owner, "Fan")
    ann, eve = await User.get(email="ann@example.com"), await User.get(email="eve@example.com")
    ours, theirs = await Product.get(number=lamp), await Product.get(number=fan)
    now = datetime.now(UTC)
    customer = await Customer.create(product=theirs, username="carl", username_key="carl", created_at=now)
    mine = await Customer.create(product=ours, username="mia", username_key="mia", created_at=now)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("ADDED", {"user_owner": ann}),
        ("CLAIMED_BY_OUTSIDER", {"user_owner": eve}),
        ("CLAIMED_BY_OUTSIDER", {"user_owner": eve, "product": ours, "state": DeviceState.QUARANTINED}),
        ("IN_OTHER_PRODUCT", {"product": theirs}),
        ("CLAIMED_BY_OUTSIDER", {"product": theirs, "owner": customer}),
        ("ADDED", {"product": theirs, "state": DeviceState.QUARANTINED}),
        ("ADDED", {"product": theirs, "state": DeviceState.DENIED}),
        ("ADDED", {"removed_from": theirs}),
        ("ADDED", {"product": ours, "state": DeviceState.DENIED}),
        ("ALREADY_MEMBER", {"product": ours, "owner": mine}),
        ("WRONG_PLATFORM", {"platform": "ELECTRON"}),
        ("ADDED", {"platform": "P0"}),
        ("ADDED", {"platform": "PHOTON"}),
    ]
    listed = ids(len(cases))
    for device_id, (_, columns) in zip(listed, cases, strict=True):
        await Device.create(device_id=device_id, created_at=now, **columns)
    refused = [device_id for device_id, (verdict, _) in zip(listed, cases, strict=True) if verdict not in ("ADDED", "ALREADY_MEMBER")]
    before = [row for row in await state_of_the_fleet() if row["device_id"] in refused]

    answer = await imported(tester, owner, "\n".join(listed).encode())

    assert [verdict for _, verdict in await verdicts(tester, owner, answer["id"])] == [verdict for verdict, _ in cases]
    assert [row for row in await state_of_the_fleet() if row["device_id"] in refused] == before
    taken = await Device.filter(import_id=1).values_list("product_id", "state", "removed_from_id")
    assert set(taken) == {(ours.id, "ACTIVE", None)}
    assert len(taken) == sum(verdict == "ADDED" for verdict, _ in cases)


async def test_a_device_taken_from_another_product_leaves_groups_and_lock_there(tester: HouseTester) -> None:
    owner = await tester.owner()
    lamp, fan = await tester.product(owner), await tester.product(owner, "Fan")
    group = await tester.do("createDeviceGroup", "group { id }", owner, productId=fan, name="emea")
    other = await Product.get(number=fan)
    (device_id,) = ids(1)
    lock = {"desired_firmware_version": 3, "lock_waits": True, "lock_forces": True, "offers": 4}
    marks = {**lock, "development": True, "notes": "theirs", "proven": True}
    await Device.create(device_id=device_id, product=other, state="DENIED", created_at=datetime.now(UTC), **marks)
    await tester.do("addDevicesToGroup", "group { path }", owner, groupId=group["group"]["id"], deviceIds=[device_id])

    await imported(tester, owner, device_id.encode(), lamp)

    device = await Device.get(device_id=device_id)
    assert (device.development, device.notes, device.proven) == (False, None, False)
    assert {name: getattr(device, name) for name in lock} == {
        "desired_firmware_version": None, "lock_waits": False, "lock_forces": False, "offers": 0,
    }  # fmt: skip
    assert await GroupMembership.all().count() == 0


async def test_force_holds_for_new_devices_and_for_those_that_report_something_else(tester: HouseTester) -> None:
    owner = await tester.owner()
    lamp = await tester.product(owner)
    product = await Product.get(number=lamp)
    fresh, member, ours, kit = ids(4)
    now = datetime.now(UTC)
    await Device.create(device_id=member, product=product, created_at=now, reported_product_id=6)
    await Device.create(device_id=ours, product=product, created_at=now, reported_product_id=lamp)
    await Device.create(device_id=kit, created_at=now, reported_product_id=lamp)

    answer = await imported(tester, owner, "\n".join([fresh, member, ours, kit]).encode(), force=True)

    assert [verdict for _, verdict in await verdicts(tester, owner, answer["id"])] == ["ADDED", "ALREADY_MEMBER", "ALREADY_MEMBER", "ADDED"]
    assert dict(await Device.all().values_list("device_id", "forced")) == {fresh: True, member: True, ours: False, kit: False}


async def test_a_list_of_ids_is_judged_like_lines(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    good = ids(2)

    payload = await tester.do("importDevices", IMPORT, owner, productId=1000, deviceIds=[good[0], "two\nlines", "", good[1].upper()])

    answer = payload["import"]
    assert (answer["total"], answer["added"]) == (3, 2)
    assert await verdicts(tester, owner, answer["id"]) == [(1, "ADDED"), (2, "INVALID_ID"), (4, "ADDED")]


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"deviceIds": ids(251)}, "INVALID_INPUT", ["input", "deviceIds"]),
        ({}, "INVALID_INPUT", ["input", "deviceIds"]),
        ({"deviceIds": ids(1), "group": "nowhere"}, "NOT_FOUND", ["input", "group"]),
    ],
)
async def test_what_cannot_be_imported_imports_nothing(tester: HouseTester, wrong: Any, code: str, path: list[str]) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    before = await tester.audited()

    payload = await tester.do("importDevices", IMPORT, owner, productId=1000, **wrong)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, path)]
    assert (await Import.all().count(), await Device.all().count(), await tester.audited()) == (0, 0, before)


async def test_an_import_into_a_group_puts_members_there_too(tester: HouseTester) -> None:
    owner = await tester.owner()
    lamp = await tester.product(owner)
    await tester.do("createDeviceGroup", "group { id }", owner, productId=lamp, name="test-group")
    first, second = ids(2)
    await imported(tester, owner, first.encode())

    await imported(tester, owner, f"{first}\n{second}\nrubbish".encode(), group="test-group")

    assert sorted(await GroupMembership.all().values_list("device_id", flat=True)) == [first, second]


async def test_a_dry_run_gives_verdicts_and_changes_nothing(tester: HouseTester) -> None:
    owner = await tester.owner()
    lamp = await tester.product(owner)
    await tester.do("createDeviceGroup", "group { id }", owner, productId=lamp, name="emea")
    first, second = ids(2)
    await imported(tester, owner, first.encode())
    before, audited, entries = await state_of_the_fleet(), await tester.audited(), await LogEntry.all().count()

    answer = await imported(tester, owner, f"{first}\n{second}\n{second}\nx".encode(), dryRun=True, force=True, group="emea")

    assert [verdict for _, verdict in await verdicts(tester, owner, answer["id"])] == [
        "ALREADY_MEMBER",
        "ADDED",
        "DUPLICATE_LINE",
        "INVALID_ID",
    ]
    assert await state_of_the_fleet() == before
    assert (await tester.audited(), await LogEntry.all().count(), await GroupMembership.all().count()) == (audited, entries, 0)


async def test_the_team_is_told_of_each_device_and_open_sessions_are_looked_at_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    lamp = await tester.product(owner)
    fresh, waiting = ids(2)
    await Device.create(device_id=waiting, product=await Product.get(number=lamp), state="QUARANTINED", created_at=datetime.now(UTC))

    await imported(tester, owner, f"{fresh}\n{waiting}".encode())

    said = [(entry.kind, entry.name, entry.device_id) for entry in await LogEntry.filter(product_number=lamp).order_by("position")]
    assert said == [("order", "consider", waiting), ("status", "ADDED", fresh), ("status", "ADDED", waiting)]
    (entry,) = await AuditEntry.filter(action="device.imported")
    assert (entry.subject, entry.detail["lines"]) == ("product:1000", 2)


@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT"])
async def test_below_developer_nobody_imports(tester: HouseTester, role: str) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    bob = await tester.member(owner, "bob", role)

    payload = await tester.do("importDevices", IMPORT, bob, productId=1000, deviceIds=ids(1))

    assert [error["code"] for error in payload["errors"]] == ["FORBIDDEN"]
    assert (await Import.all().count(), await Device.all().count()) == (0, 0)


async def test_an_import_of_strangers_is_not_found(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    await tester.product(owner)
    answer = await imported(tester, owner, ids(1)[0].encode())

    started = await tester.do("importDevices", IMPORT, eve, productId=1000, deviceIds=ids(1))
    undone = await tester.do("undoImport", IMPORT, eve, importId=answer["id"])
    seen = await tester.ask(ROWS, eve, id=answer["id"])

    assert [error["code"] for error in started["errors"] + undone["errors"]] == ["NOT_FOUND", "NOT_FOUND"]
    assert seen == {"node": None}
    assert await Device.all().count() == 1
