"""In a large fleet: what a page, a count and a release read, by the databases' own account of it."""

import asyncio
import dataclasses
import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from auth.viewer import Viewer
from fleet.devices import counting, listing
from fleet.devices.listing import DeviceList, DeviceOrder, Place
from fleet.firmware import releasing
from fleet.products import grouping
from fleet.rollouts import staging, walking
from models.database import database
from models.device import DeviceGroup
from models.product import Product
from models.sql import execute, is_sqlite, rows, tuples
from models.transaction import transaction
from settings import Settings
from tests.large_fleet import START, furnish, roll_out

DEVICES = int(os.environ.get("DEVICES", "100000"))  # a million in its time: DEVICES=1000000 pytest tests/fleet/test_costs.py
HALFWAY = f"{DEVICES // 8:024x}"
SHORT = ("SCAN json_each", "SCAN rollout")  # a list that was given, and the rollouts there are
READ_MAX = 200  # rows, for a page of 25 and what is looked up for each


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two products: one of nearly a million devices, of which some were never heard of, and one of ten."""
    settings = dataclasses.replace(Settings(), data_dir=tmp_path_factory.mktemp("fleet"), secret_key="of the tests, 32 characters long")
    if request.param == "postgres":
        settings = dataclasses.replace(settings, database_url=request.getfixturevalue("make_postgres_database")())
    with ThreadPoolExecutor(1) as elsewhere:  # a test's loop may be running in this thread
        elsewhere.submit(lambda: asyncio.run(furnish(settings, DEVICES))).result()
        elsewhere.submit(lambda: asyncio.run(roll_out(settings))).result()
    return settings


@pytest.fixture
async def fleet(filled: Settings) -> AsyncIterator[Product]:
    async with database(filled):
        yield await Product.get(id=1).select_related("organization")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any]]]:
    """The statements that the device list sends."""
    sent: list[tuple[str, list[Any]]] = []

    async def noted(sql: str, params: Any = ()) -> Any:
        sent.append((sql, list(params)))
        return await tuples(sql, params)

    monkeypatch.setattr(listing, "tuples", noted)
    return sent


async def rows_read(sql: str, params: list[Any], *, may_sort: bool = False) -> int:
    """How many rows PostgreSQL read to answer, passed over ones included; SQLite tells its plan alone: too many for a scan or a sort."""
    if is_sqlite():
        plan = [row["detail"] for row in await rows(f"EXPLAIN QUERY PLAN {sql}", params)]
        sorts = not may_sort and any("TEMP B-TREE" in step for step in plan)
        is_bounded = not sorts and not any(step.startswith("SCAN") and step.split(" VIRTUAL")[0] not in SHORT for step in plan)
        return 0 if is_bounded else DEVICES
    (row,) = await rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
    found = row["QUERY PLAN"]
    return _read((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])


def _read(node: dict[str, Any]) -> int:
    own = 0
    if "Scan" in node["Node Type"]:
        own = node["Actual Loops"] * (
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        )
    return int(own) + sum(map(_read, node.get("Plans", [])))


PLACES = {
    DeviceOrder.DEVICE_ID: Place(None, HALFWAY),
    DeviceOrder.LAST_HEARD: Place(START, HALFWAY),
    DeviceOrder.NAME: Place("lamp", HALFWAY),
    DeviceOrder.FIRMWARE_VERSION: Place(3, HALFWAY),
    DeviceOrder.CREATED_AT: Place(START, HALFWAY),
}


@pytest.mark.parametrize("order", list(DeviceOrder))
async def test_a_page_of_any_order_reads_about_a_page(fleet: Product, asked: list[tuple[str, list[Any]]], order: DeviceOrder) -> None:
    for filter in ({}, {"state": "ACTIVE"}):
        listed = await DeviceList.of(fleet, filter, order, by=Viewer.house("test"))
        for beyond in (None, PLACES[order]):
            for backward in (False, True):
                page = await listed.read(26, beyond=beyond, backward=backward)
                assert len(page) == 26
    statements, asked[:] = list(asked), []

    read = {sql: await rows_read(sql, params) for sql, params in statements}

    assert len(read) >= 8
    assert {sql: count for sql, count in read.items() if count > READ_MAX} == {}


async def test_a_count_reads_a_row_for_each_kind(fleet: Product) -> None:
    await counting.fold()

    kinds = await counting.kinds([fleet.id])

    assert sum(kind.devices for kind in kinds) == DEVICES - DEVICES // 100_000
    assert await rows_read(counting._KEPT.replace("= ANY($1)", "= $1"), [fleet.id]) <= READ_MAX
    assert await (await DeviceList.of(fleet, {"online": True}, DeviceOrder.DEVICE_ID, by=Viewer.house("test"))).count() == sum(
        kind.online for kind in kinds
    )


async def test_a_group_costs_the_same_however_many_devices_are_in_it(fleet: Product) -> None:
    await counting.fold()
    every, half = await DeviceGroup.all().order_by("path")

    half_of_them = DEVICES // 2 - max(1, DEVICES // 200_000)  # those of the other product left out
    assert [await counting.in_group(each.id) for each in (every, half)] == [half_of_them] * 2
    assert len(await rows("SELECT id FROM group_tally")) <= 2 * counting.PARTS_MAX
    for beyond in ("", HALFWAY):
        page = [device.device_id for device in await (await grouping.page_of_devices(every, beyond=beyond, count=26)).order_by("device_id")]
        assert len(page) == 26
        assert page[0] > beyond
        if not is_sqlite():  # which sorts what it found in each group, and says nothing of how much that is
            assert await rows_read(grouping._PAGE, [every.id, beyond, 26]) <= READ_MAX
    listed = await DeviceList.of(fleet, {"group": "all"}, DeviceOrder.DEVICE_ID, by=Viewer.house("test"))
    assert await listed.count() == half_of_them


async def test_the_proof_of_a_release_is_one_row(fleet: Product) -> None:
    assert len(await rows(releasing._PROOF, [fleet.id, 3])) == 1
    assert await rows_read(releasing._PROOF, [fleet.id, 3]) <= READ_MAX


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any]]]:
    """The statements of a rollout's walk, and of the judgement before an offer."""
    sent: list[tuple[str, list[Any]]] = []

    async def note(sql: str, params: Any = ()) -> Any:
        sent.append((sql, list(params)))
        return await rows(sql, params)

    for module in (walking, staging):
        monkeypatch.setattr(module, "rows", note)
    return sent


async def test_a_look_of_a_rollout_reads_a_piece_of_the_fleet(
    fleet: Product, noted: list[tuple[str, list[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "PIECE", 100)
    monkeypatch.setattr(walking, "WALK_S", 0)
    async with transaction():
        course = await staging.hold(1)
        assert course is not None
        course.rollout.walked_to = HALFWAY
        await walking.go_on(course, START, busy=0, places=5)

    read = [await rows_read(sql, params, may_sort=True) for sql, params in noted]

    assert len(read) == 3  # where the piece ends, who waits, whether anybody is left
    assert max(read) <= 400  # of each device the presence, and what it was offered


async def test_an_offer_of_a_rollout_reads_nothing_of_those_that_had_theirs(fleet: Product, noted: list[tuple[str, list[Any]]]) -> None:
    async with transaction():
        place = await staging.take_place(1, f"{2:024x}", START + timedelta(days=1))

    read = [await rows_read(sql, params, may_sort=True) for sql, params in noted]

    assert place is not None
    assert place.granted
    assert read == [0, 0, 0]  # who is under way, who failed, and how many are under way


async def test_what_a_heartbeat_writes_touches_no_count(fleet: Product) -> None:
    parts = "SELECT COUNT(*) AS n FROM device_tally"
    before = await rows(parts), await counting.kinds([fleet.id])

    await execute("UPDATE presence SET last_heard = $2 WHERE device_id = $1", [HALFWAY, START + timedelta(minutes=1)])

    assert (await rows(parts), await counting.kinds([fleet.id])) == before
