"""The kept counts of devices equal a recount, whatever happens to devices and however many do it at once."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fleet.devices import counting
from fleet.devices.counting import Difference, Kind
from models.database import opened
from models.device import Device, DeviceState, DeviceTally, Presence
from models.migrating import migrate
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction
from realtime import presence
from realtime.presence import Leaving
from settings import Settings
from tests.house import HouseTester

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [f"{each:024x}" for each in range(40)]


async def two_products(tester: HouseTester) -> list[int]:
    owner = await tester.owner()
    numbers = [await tester.product(owner), await tester.product(owner, "Fan")]
    return [(await Product.get(number=number)).id for number in numbers]


async def any_change(chance: random.Random, products: list[int]) -> None:
    """Something that can happen to devices, of the kinds that the verbs, the gateway and a deletion do; often several rows at once."""
    ids = sorted(chance.sample(IDS, chance.randint(1, 5)))
    match chance.randrange(8):
        case 0:
            now = datetime.now(UTC)
            for each in ids:
                sql = "INSERT INTO device (device_id, product_id, state, created_at) VALUES ($1, $2, 'ACTIVE', $3) ON CONFLICT DO NOTHING"
                await execute(sql, [each, chance.choice([*products, None]), now])
        case 1:
            await execute("UPDATE device SET product_id = $2 WHERE device_id = ANY($1)", [ids, chance.choice([*products, None])])
        case 2:
            await execute("UPDATE device SET state = $2 WHERE device_id = ANY($1)", [ids, chance.choice(list(DeviceState))])
        case 3:
            change = [ids, chance.choice([None, 1, 2]), chance.random() < 0.5]
            await execute("UPDATE device SET firmware_version = $2, proven = $3 WHERE device_id = ANY($1)", change)
        case 4 | 5:
            if found := await rows("SELECT device_id FROM device WHERE device_id = $1 FOR UPDATE", ids[:1]):
                await presence.came_online({found[0]["device_id"]: None}, chance.choice("ab"), NOW)
        case 6:
            (row,) = await rows("SELECT epoch FROM presence WHERE device_id = $1", ids[:1]) or [{"epoch": 0}]
            await presence.went_offline([Leaving(ids[0], row["epoch"])], NOW)
        case 7:
            await execute("DELETE FROM device WHERE device_id = $1", ids[:1])


async def test_after_any_history_the_kept_counts_are_the_recount(tester: HouseTester) -> None:
    products, chance = await two_products(tester), random.Random(5)

    for turn in range(300):
        async with transaction():
            await any_change(chance, products)
        if turn % 50 == 49:
            await counting.fold()
            assert await counting.differences() == []

    assert sum(kind.devices for kind in await counting.kinds(products)) == await Device.filter(product_id__in=products).count() > 0
    online = await Presence.filter(device__product_id__in=products, online=True).count()
    assert sum(kind.online for kind in await counting.kinds(products)) == online > 0


async def test_eight_connections_changing_the_same_devices_leave_exact_counts(postgres_tester: HouseTester) -> None:
    products = await two_products(postgres_tester)
    # Each deadlock is found after a second, and several may stand in a queue: what waits is not to be given up for that.
    patient = replace(postgres_tester.house.settings, database_command_timeout_s=60.0)

    async def one(seed: int) -> int:
        chance, done = random.Random(seed), 0
        async with opened(patient):
            for _ in range(60):
                try:
                    async with transaction():
                        await execute("SET LOCAL statement_timeout = '60s'", [])
                        await any_change(chance, products)
                        await asyncio.sleep(0)
                        await any_change(chance, products)
                    done += 1
                except Exception as error:  # two of them may wait for each other: one is sent back, as a verb's retry is
                    assert "deadlock" in str(error).lower(), error
        return done

    done = await asyncio.gather(*(asyncio.to_thread(lambda seed=seed: asyncio.run(one(seed))) for seed in range(8)))

    assert sum(done) > 100
    assert await counting.differences() == []
    assert sum(kind.devices for kind in await counting.kinds(products)) == await Device.filter(product_id__in=products).count()


async def test_folding_leaves_the_sums_and_few_rows(postgres_tester: HouseTester) -> None:
    products = await two_products(postgres_tester)
    await Device.create(device_id=IDS[0], product_id=products[0], created_at=NOW)
    for version in (1, 2) * 60:
        await Device.filter(device_id=IDS[0]).update(firmware_version=version)
    before = await counting.kinds(products)
    assert await DeviceTally.all().count() > counting.PARTS_MAX

    await asyncio.gather(*(counting.fold() for _ in range(3)))

    assert await counting.kinds(products) == before
    assert await DeviceTally.all().count() == 1


async def test_a_recount_finds_a_number_that_was_made_wrong_by_hand_and_mends_it(tester: HouseTester) -> None:
    products = await two_products(tester)
    await Device.create(device_id=IDS[0], product_id=products[0], created_at=NOW)
    wrong: dict[str, Any] = {"product_id": products[0], "state": "ACTIVE", "firmware_version": 7, "proven": True}
    await DeviceTally.create(**wrong, devices=2, online=1)

    assert await counting.differences() == [Difference(products[0], DeviceState.ACTIVE, 7, kept=(2, 1), counted=(0, 0))]
    await counting.repair()
    assert await counting.differences() == []
    await Device.filter(device_id=IDS[0]).update(firmware_version=8)
    assert await counting.differences() == []


async def test_counts_begin_right_on_a_database_that_had_devices_before(settings: Settings) -> None:
    await migrate(settings, "0001_every_table_of_the_first_version")
    async with opened(settings):
        await execute(
            "INSERT INTO organization (id, slug, name, created_at, billing_state) VALUES (1, 'acme', 'Acme', $1, 'EXEMPT')", [NOW]
        )
        await Product.create(id=1, number=1000, organization_id=1, slug="p", name="P", platform="PHOTON", created_at=NOW)
        for number, online in ((0, True), (1, False), (2, None)):
            await Device.create(device_id=IDS[number], product_id=1, created_at=NOW, firmware_version=3)
            if online is not None:
                times = {"last_heard": NOW, "last_handshake_at": NOW, "connects_since": NOW}
                await Presence.create(device_id=IDS[number], online=online, epoch=1, connects=1, **times)

    await migrate(settings)

    async with opened(settings):
        assert await counting.kinds([1]) == [Kind(1, DeviceState.ACTIVE, 3, proven=False, devices=3, online=1)]
        assert await counting.differences() == []
        await Device.filter(device_id=IDS[0]).update(state="DENIED")
        assert {(kind.state, kind.devices, kind.online) for kind in await counting.kinds([1])} == {("ACTIVE", 2, 0), ("DENIED", 1, 1)}
