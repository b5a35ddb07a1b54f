"""Imports in pieces: what is left of one goes on behind the last piece, and lists of verdicts page through them."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from errors import Unauthenticated
from fleet.imports import importing, undoing
from fleet.imports.importing import forget_sources, run_import
from models.device import Device
from models.importing import Import, ImportPiece, ImportState
from models.operations import Job
from tests.connected import until
from tests.house import HouseTester
from tests.imports import ids, imported, verdicts


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
    assert list((tester.house.settings.data_dir / "blobs" / "imports").iterdir()) == []


async def _take_up_jobs(tester: HouseTester, answer: Any) -> None:
    (job,) = await Job.filter(kind="import").order_by("id").limit(1)
    await undoing.take_up(job.payload, tester.house)


@pytest.mark.parametrize("dry", [False, True])
async def test_two_workers_at_one_import_judge_every_line_once(small_pieces: HouseTester, dry: bool) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, _awkward(195), dryRun=dry)

    await asyncio.gather(*(run_import(1, tester.house) for _ in range(3)))

    row = await Import.get(id=1)
    assert (row.state, row.processed) == ("FINISHED", row.total)
    assert await Device.all().count() == (0 if dry else row.added)
    assert await ImportPiece.all().count() == 20


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

    by = (await tester.context(owner)).viewer

    steps: list[tuple[str, int]] = []

    async def follow() -> None:
        async for row in importing.follow(1, house=tester.house, by=by):
            steps.append((row.state, row.processed))

    following = asyncio.create_task(follow())
    await until(lambda: steps)
    await run_import(1, tester.house)
    await asyncio.wait_for(following, 60)

    assert steps[0] == ("RUNNING", 0)
    assert steps[-1] == ("FINISHED", 35)


async def test_whoever_may_no_longer_see_an_import_no_longer_follows_it(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, "\n".join(ids(35)).encode())
    steps = importing.follow(1, house=tester.house, by=(await tester.context(owner)).viewer)
    first = await anext(steps)
    await tester.do("logOut", "clientMutationId", owner)

    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(anext(steps), 60)
    assert first.state == "RUNNING"


async def test_the_progress_of_an_import_is_for_those_who_may_see_it(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    await tester.product(owner)
    answer = await imported(tester, owner, "\n".join(ids(35)).encode())
    await run_import(1, tester.house)

    seen = [await _progress(tester, token, answer["id"]) for token in (owner, eve)]

    assert seen[0] == [({"importProgress": {"state": "FINISHED", "processed": 35}}, None)]
    assert [(data, code) for data, code in seen[1]] == [(None, "NOT_FOUND")]


async def _progress(tester: HouseTester, token: str, id: str) -> list[Any]:
    text = "subscription ($id: ID!) { importProgress(importId: $id) { state processed } }"
    stream = await tester.schema.subscribe(text, variable_values={"id": id}, context_value=await tester.context(token))
    return [(each.data, getattr(each.errors[0].original_error, "code", None) if each.errors else None) async for each in stream]


async def test_an_import_whose_file_is_gone_fails_and_says_so(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, "\n".join(ids(35)).encode())
    for path in (tester.house.settings.data_dir / "blobs" / "imports").iterdir():
        path.unlink()

    await run_import(1, tester.house)

    row = await Import.get(id=1)
    assert (row.state, row.error) == (ImportState.FAILED, "The file is gone: import it again.")


async def test_files_that_no_import_waits_for_are_swept_after_a_day(small_pieces: HouseTester) -> None:
    tester = small_pieces
    owner = await tester.owner()
    await tester.product(owner)
    await imported(tester, owner, "\n".join(ids(35)).encode())
    folder = tester.house.settings.data_dir / "blobs" / "imports"
    (folder / ("0" * 32)).write_text("x")
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
