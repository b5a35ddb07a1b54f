"""Imports: one verdict a line, good lines added whatever the others are, the same end however often it is tried."""

import asyncio
import dataclasses
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.datastructures import UploadFile

from fleet import importing, undoing
from fleet.importing import forget_sources, run_import
from models.account import User
from models.customer import Customer
from models.device import Device, DeviceState, GroupMembership
from models.importing import Import, ImportPiece, ImportState
from models.log import LogEntry
from models.operations import AuditEntry, Job
from models.product import Product
from tests.house import HouseTester

IMPORT = "import { id state total processed added undoneAt rejected { totalCount nodes { line text deviceId verdict } } }"
ROWS = "query ($id: ID!) { node(id: $id) { ... on Import { rows(first: 100) { totalCount nodes { line text deviceId verdict } } } } }"


def ids(count: int, start: int = 1) -> list[str]:
    return [f"{number:024x}" for number in range(start, start + count)]


async def imported(tester: HouseTester, token: str, lines: bytes, number: int = 1000, **options: Any) -> Any:
    file = UploadFile(io.BytesIO(lines))
    payload = await tester.do("importDevices", IMPORT, token, productId=number, file=file, **options)
    assert payload["errors"] == []
    return payload["import"]


async def verdicts(tester: HouseTester, token: str, id: str) -> list[tuple[int, str]]:
    rows = (await tester.ask(ROWS, token, id=id))["node"]["rows"]["nodes"]
    return [(row["line"], row["verdict"]) for row in rows]


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
    marks = {"desired_firmware_version": 3, "development": True, "notes": "theirs", "proven": True}
    await Device.create(device_id=device_id, product=other, state="DENIED", created_at=datetime.now(UTC), **marks)
    await tester.do("addDevicesToGroup", "group { path }", owner, groupId=group["group"]["id"], deviceIds=[device_id])

    await imported(tester, owner, device_id.encode(), lamp)

    device = await Device.get(device_id=device_id)
    assert (device.desired_firmware_version, device.development, device.notes, device.proven) == (None, False, None, False)
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


# ── pieces ──
@pytest.fixture
def small_pieces(tester: HouseTester) -> HouseTester:
    """Ten lines a piece."""
    object.__setattr__(tester.house, "settings", _with_pieces(tester, 10))
    return tester


def _with_pieces(tester: HouseTester, lines: int) -> Any:
    return dataclasses.replace(tester.house.settings, import_piece_lines=lines)


def _awkward(count: int) -> bytes:
    """Every fifth line blank, every seventh invalid, every eleventh a repetition of the first."""
    lines = ids(count)
    for place in range(0, count, 5):
        lines[place] = " "
    for place in range(3, count, 7):
        lines[place] = f"line {place}"
    for place in range(12, count, 11):
        lines[place] = lines[1]
    return "\r\n".join(lines).encode()


async def test_a_long_import_waits_for_a_worker_and_goes_on_where_a_dead_one_stopped(
    small_pieces: HouseTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    tester = small_pieces
    owner = await tester.owner()
    one, two = await tester.product(owner), await tester.product(owner, "Fan")
    whole = await imported(tester, owner, _awkward(95), one, dryRun=True)
    broken = await imported(tester, owner, _awkward(95), two)
    assert (whole["state"], whole["processed"], whole["total"]) == ("RUNNING", 0, 79)
    await _take_up_jobs(tester, whole)

    writing, pieces = importing._write_piece, []

    async def dies_in_the_fourth(*arguments: Any) -> None:
        await writing(*arguments)
        pieces.append(1)
        if len(pieces) == 4:
            raise RuntimeError("kill -9")

    monkeypatch.setattr(importing, "_write_piece", dies_in_the_fourth)
    with pytest.raises(RuntimeError):
        await run_import(2, tester.house)
    monkeypatch.setattr(importing, "_write_piece", writing)
    halfway = await Import.get(id=2)
    assert (halfway.state, halfway.next_line, await ImportPiece.filter(job_id=2).count()) == ("RUNNING", 31, 3)
    await run_import(2, tester.house)

    first, second = await Import.get(id=1), await Import.get(id=2)
    assert (first.state, first.total, first.processed) == ("FINISHED", 79, 79)
    assert (first.added, first.rejected) == (second.added, second.rejected)
    assert await verdicts(tester, owner, whole["id"]) == await verdicts(tester, owner, broken["id"])
    assert await Device.all().count() == second.added
    assert list((tester.house.settings.data_dir / "imports").iterdir()) == []


async def _take_up_jobs(tester: HouseTester, answer: Any) -> None:
    (job,) = await Job.filter(kind="import").order_by("id").limit(1)
    await undoing.take_up(job.payload, tester.house)


async def test_pages_of_verdicts_go_through_pieces(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    answer = await imported(tester, owner, _awkward(95))
    await _take_up_jobs(tester, answer)
    everything = await verdicts(tester, owner, answer["id"])
    rejected = [row for row in everything if row[1] not in ("ADDED", "ALREADY_MEMBER")]

    assert len(everything) == 79
    for field, expected in (("rows", everything), ("rejected", rejected)):
        page = f"query ($id: ID!, $after: Cursor) {{ node(id: $id) {{ ... on Import {{ {field}(first: 7, after: $after) {{ totalCount"
        page += " nodes { line verdict } pageInfo { hasNextPage endCursor } } } } }"
        walked, after = [], None
        while True:
            found = (await tester.ask(page, owner, id=answer["id"], after=after))["node"][field]
            walked += [(row["line"], row["verdict"]) for row in found["nodes"]]
            after = found["pageInfo"]["endCursor"]
            if not found["pageInfo"]["hasNextPage"]:
                break
        assert walked == expected
        assert found["totalCount"] == len(expected)


async def test_whoever_follows_an_import_sees_it_end(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, "\n".join(ids(35)).encode())

    async def follow() -> list[tuple[str, int]]:
        return [(row.state, row.processed) async for row in importing.follow(1)]

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    await run_import(1, tester.house)
    steps = await asyncio.wait_for(following, 5)

    assert steps[0] == ("RUNNING", 0)
    assert steps[-1] == ("FINISHED", 35)


async def test_an_import_whose_file_is_gone_fails_and_says_so(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, "\n".join(ids(35)).encode())
    for path in (tester.house.settings.data_dir / "imports").iterdir():
        path.unlink()

    await run_import(1, tester.house)

    row = await Import.get(id=1)
    assert (row.state, row.error) == (ImportState.FAILED, "The file is gone: import it again.")


async def test_files_that_no_import_waits_for_are_swept_after_a_day(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, "\n".join(ids(35)).encode())
    folder = tester.house.settings.data_dir / "imports"
    (folder / "left.txt").write_text("x")
    now = datetime.now(UTC)

    early = await forget_sources(tester.house, now)
    late = await forget_sources(tester.house, datetime.fromtimestamp(now.timestamp() + 90_000, UTC))

    assert (early, late) == (0, 1)
    assert len(list(folder.iterdir())) == 1


async def test_of_imports_into_two_products_at_once_each_device_goes_to_one(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    object.__setattr__(tester.house, "settings", _with_pieces(tester, 250))
    owner = await tester.owner()
    products = [await tester.product(owner, "Lamp"), await tester.product(owner, "Fan")]
    text = "\n".join(ids(2000)).encode()
    for turn in range(4):
        await imported(tester, owner, text, products[turn % 2])

    await asyncio.gather(*(run_import(number, tester.house) for number in range(1, 5)))

    reports = await Import.all().order_by("id")
    assert [report.state for report in reports] == ["FINISHED"] * 4
    assert [report.processed for report in reports] == [2000] * 4
    assert sum(report.added for report in reports) == 2000
    assert await Device.all().count() == 2000
    for number, pair in ((products[0], (0, 2)), (products[1], (1, 3))):
        there = await Device.filter(product__number=number).count()
        assert sum(reports[place].added for place in pair) == there
        assert [reports[place].rejected for place in pair] == [2000 - there] * 2
