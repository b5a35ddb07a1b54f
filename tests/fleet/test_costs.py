"""With a million devices: what a page, a count and a release read, by the databases' own account of it."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet import counting, listing, releasing
from fleet.listing import DeviceList, DeviceOrder, Place
from models.database import database
from models.migrating import migrate
from models.product import Product
from models.sql import execute, is_sqlite, rows
from models.transaction import transaction
from settings import Settings

DEVICES = 1_000_000
HEARD_OF = 300_000  # of them; the others never connected
PIECE = 50_000
HALFWAY = f"{HEARD_OF // 2:024x}"
READ_MAX = 200  # rows, for a page of 25 and what is looked up for each
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two products: one of nearly a million devices, of which some were never heard of, and one of ten."""
    settings = dataclasses.replace(Settings(), data_dir=tmp_path_factory.mktemp("fleet"), secret_key="of the tests, 32 characters long")
    if request.param == "postgres":
        settings = dataclasses.replace(settings, database_url=request.getfixturevalue("make_postgres_database")())
    with ThreadPoolExecutor(1) as elsewhere:  # a test's loop may be running in this thread
        elsewhere.submit(lambda: asyncio.run(_furnish(settings))).result()
    return settings


@pytest.fixture
async def fleet(filled: Settings) -> AsyncIterator[Product]:
    async with database(filled):
        yield await Product.get(id=1).select_related("organization")


async def _furnish(settings: Settings) -> None:
    await migrate(settings)
    async with database(settings):
        await execute(
            "INSERT INTO organization (id, slug, name, created_at, billing_state) VALUES (1, 'acme', 'Acme', $1, 'EXEMPT')", [START]
        )
        for number in (1, 2):
            name = {"slug": f"p{number}", "name": f"P{number}", "platform": "PHOTON"}
            await Product.create(id=number, number=999 + number, organization_id=1, created_at=START, **name)
        await _fill()


async def _fill() -> None:
    numbers = "generate_series($1::int, $2::int) AS n"
    hexadecimal = "lpad(to_hex(n), 24, '0')"
    if is_sqlite():
        numbers = "(WITH RECURSIVE s(n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM s WHERE n < $2) SELECT n FROM s)"
        hexadecimal = "printf('%024x', n)"
    for start in range(0, DEVICES, PIECE):  # no statement may take more than five seconds
        async with transaction():
            await execute(
                "INSERT INTO device (device_id, product_id, state, created_at, name, firmware_version, proven)"
                f" SELECT {hexadecimal}, CASE WHEN n % 100000 = 7 THEN 2 ELSE 1 END, 'ACTIVE', $3,"
                f" CASE WHEN n % 2 = 0 THEN 'lamp' END, CASE WHEN n % 3 > 0 THEN n % 7 END, TRUE FROM {numbers}",
                [start, start + PIECE - 1, START],
            )
            if start < HEARD_OF:
                await execute(
                    "INSERT INTO presence (device_id, online, epoch, last_heard, last_handshake_at, connects_since, connects)"
                    f" SELECT {hexadecimal}, n % 2 = 0, 1, $3, $3, $3, 1 FROM {numbers}",
                    [start, start + PIECE - 1, START],
                )
    await execute("ANALYZE")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any]]]:
    """The statements that the device list sends."""
    sent: list[tuple[str, list[Any]]] = []

    async def noted(sql: str, params: Any = ()) -> Any:
        sent.append((sql, list(params)))
        return await rows(sql, params)

    monkeypatch.setattr(listing, "rows", noted)
    return sent


async def rows_read(sql: str, params: list[Any]) -> int:
    """How many rows PostgreSQL read to answer, passed over ones included; SQLite tells its plan alone: too many for a scan or a sort."""
    if is_sqlite():
        plan = [row["detail"] for row in await rows(f"EXPLAIN QUERY PLAN {sql}", params)]
        is_bounded = not any("TEMP B-TREE" in step or (step.startswith("SCAN") and "json_each" not in step) for step in plan)
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
        listed = await DeviceList.of(fleet, filter, order)
        for beyond in (None, PLACES[order]):
            for backward in (False, True):
                page = await listed.read(26, beyond=beyond, backward=backward)
                assert len(page) == 26
    statements, asked[:] = list(asked), []

    read = {sql: await rows_read(sql, params) for sql, params in statements}

    assert len(read) >= 8
    assert {sql: count for sql, count in read.items() if count > READ_MAX} == {}


async def test_a_count_of_a_million_reads_a_row_for_each_kind(fleet: Product) -> None:
    await counting.fold(None, START)  # type: ignore[arg-type]  # needs no house

    kinds = await counting.kinds([fleet.id])

    assert sum(kind.devices for kind in kinds) == DEVICES - 10
    assert await rows_read(counting._KEPT.replace("= ANY($1)", "= $1"), [fleet.id]) <= READ_MAX
    assert await (await DeviceList.of(fleet, {"online": True}, DeviceOrder.DEVICE_ID)).count() == sum(kind.online for kind in kinds)


async def test_the_proof_of_a_release_is_one_row(fleet: Product) -> None:
    proof = releasing._RELEASE.split("WITH proof AS (")[1].split(")\n")[0]

    assert len(await rows(proof.replace("FOR NO KEY UPDATE", ""), [fleet.id, 3])) == 1
    assert await rows_read(proof.replace("FOR NO KEY UPDATE", ""), [fleet.id, 3]) <= READ_MAX


async def test_what_a_heartbeat_writes_touches_no_count(fleet: Product) -> None:
    before = await counting.kinds([fleet.id])

    await execute("UPDATE presence SET last_heard = $2 WHERE device_id = $1", [HALFWAY, START + timedelta(minutes=1)])

    (row,) = await rows("SELECT COUNT(*) AS n FROM device_tally WHERE product_id = $1", [fleet.id])
    assert row["n"] <= len(before) + counting.PARTS_MAX
    assert await counting.kinds([fleet.id]) == before
