"""How many devices are in a group and all inside it: right at every level, also while they move."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tortoise.exceptions import IntegrityError

from fleet.devices import counting
from fleet.devices.counting import GroupDifference
from fleet.products.grouping import add_devices, remove_devices
from models.database import opened
from models.device import Device, DeviceGroup, GroupMembership, GroupTally
from models.migrating import migrate
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction
from settings import Settings
from tests.fleet.products.test_grouping import IDS, devices, group
from tests.house import HouseTester

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEVELS = ("fleet", "fleet/north", "fleet/north/ward", "fleet/south")


async def test_counts_are_right_at_every_level_while_eight_move_devices(postgres_tester: HouseTester) -> None:
    """A move is into the new group, then out of the old one: from above nobody is ever missing or counted twice."""
    tester = postgres_tester
    owner = await tester.owner()
    number = await tester.product(owner)
    for path in LEVELS:
        parent, _, name = path.rpartition("/")
        await group(tester, owner, name, parent or None)
    ids, movers = IDS[:40], 8
    await devices(number, *ids)
    rows = {row.path: row for row in await DeviceGroup.all().select_related("product__organization")}
    viewer = (await tester.context(owner)).viewer
    await add_devices(rows["fleet/north"], ids, by=viewer)
    at_work, seen = movers, []

    async def move(mine: list[str], chance: random.Random) -> None:
        nonlocal at_work
        where = dict.fromkeys(mine, "fleet/north")
        for _ in range(12):
            target, some = chance.choice(LEVELS[1:]), chance.sample(mine, 3)
            await add_devices(rows[target], some, by=viewer)
            for source in {where[each] for each in some} - {target}:
                await remove_devices(rows[source], [each for each in some if where[each] == source], by=viewer)
            where |= dict.fromkeys(some, target)
        at_work -= 1

    async def watch() -> None:
        while at_work:
            seen.append(await _counts(tester, owner))

    await asyncio.gather(watch(), *(move(ids[place::movers], random.Random(place)) for place in range(movers)))

    assert len(seen) > 5
    assert {counts["fleet"] for counts in seen} == {40}
    assert all(0 <= count <= 40 for counts in seen for count in counts.values())
    assert len({tuple(counts.values()) for counts in seen}) > 1, "it was looked at while they moved"
    assert await _counts(tester, owner) == await _recounted()


async def _counts(tester: HouseTester, token: str) -> dict[str, int]:
    """Asked once: what moves meanwhile is not the same when it is asked again, as `tester.ask` does."""
    document = "{ product(productId: 1000) { groups { path devices(first: 1) { totalCount } } } }"
    found = await tester.schema.execute(document, context_value=await tester.context(token))
    return {each["path"]: each["devices"]["totalCount"] for each in found.data["product"]["groups"]}


async def _recounted() -> dict[str, int]:
    """Without a word of SQL: who is in a group is in every group whose path begins its own."""
    inside = await GroupMembership.all().values_list("group__path", "device_id")
    return {level: len({each for path, each in inside if f"{path}/".startswith(f"{level}/")}) for level in LEVELS}


async def nested(tester: HouseTester, count: int) -> list[int]:
    """The groups of LEVELS, in a product of `count` devices: their rows."""
    owner = await tester.owner()
    number = await tester.product(owner)
    await devices(number, *IDS[:count])
    product, made = await Product.get(number=number), dict[str, DeviceGroup]()
    for path in LEVELS:
        parent, _, name = path.rpartition("/")
        made[path] = await DeviceGroup.create(product=product, parent=made.get(parent), name=name, path=path, created_at=NOW)
    return [made[path].id for path in LEVELS]


async def any_change(chance: random.Random, groups: list[int]) -> None:
    """Something that can happen to memberships, of the kinds that verbs, imports, their undoing and deletions do; several at once."""
    ids = sorted(chance.sample(IDS[:12], chance.randint(1, 4)))
    some = chance.sample(groups, 2)
    join = "INSERT INTO group_membership (group_id, device_id) SELECT device_group.id, device.device_id FROM device_group CROSS JOIN device"
    match chance.randrange(6):
        case 0 | 1:
            await execute(f"{join} WHERE device_group.id = ANY($1) AND device.device_id = ANY($2) ON CONFLICT DO NOTHING", [some, ids])
        case 2:
            await execute("DELETE FROM group_membership WHERE group_id = ANY($1) AND device_id = ANY($2)", [some, ids])
        case 3:
            await execute("DELETE FROM group_membership WHERE device_id = ANY($1)", [ids])
        case 4:
            await execute(f"{join} WHERE device_group.id = ANY($1) AND device.device_id = ANY($2) ON CONFLICT DO NOTHING", [some[:1], ids])
            await execute("DELETE FROM group_membership WHERE group_id = $1 AND device_id = ANY($2)", [some[1], ids])
        case 5:
            await execute("DELETE FROM device WHERE device_id = $1", ids[:1])
            sql = "INSERT INTO device (device_id, product_id, state, created_at) VALUES ($1, 1, 'ACTIVE', $2) ON CONFLICT DO NOTHING"
            await execute(sql, [ids[0], NOW])


async def kept(groups: list[int]) -> dict[str, int]:
    return dict(zip(LEVELS, [await counting.in_group(each) for each in groups], strict=True))


async def test_after_any_history_each_group_counts_each_device_below_it_once(tester: HouseTester) -> None:
    groups, chance, seen = await nested(tester, 12), random.Random(7), set[int]()

    for turn in range(200):
        async with transaction():
            await any_change(chance, groups)
        if turn % 20 == 19:
            await counting.fold()
            assert await kept(groups) == await _recounted()
            seen.add(await counting.in_group(groups[0]))

    assert len(seen) > 1
    assert await counting.differences_of_groups() == []


async def test_eight_connections_changing_the_same_groups_leave_exact_counts(postgres_tester: HouseTester) -> None:
    groups = await nested(postgres_tester, 12)
    # Each deadlock is found after a second, and several may stand in a queue: what waits is not to be given up for that.
    patient = replace(postgres_tester.house.settings, database_command_timeout_s=60.0)

    async def one(seed: int) -> int:
        chance, done = random.Random(seed), 0
        async with opened(patient):
            for _ in range(20):
                try:
                    async with transaction():
                        await execute("SET LOCAL statement_timeout = '60s'", [])
                        await any_change(chance, groups)
                        await asyncio.sleep(0)
                        await any_change(chance, groups)
                    done += 1
                except Exception as error:  # two that wait for each other: one is sent back, as a verb's retry is; or its device is gone
                    assert "deadlock" in str(error).lower() or "foreign key" in str(error).lower(), error
        return done

    done = await asyncio.gather(*(asyncio.to_thread(lambda seed=seed: asyncio.run(one(seed))) for seed in range(8)))

    assert sum(done) > 40
    assert await counting.differences_of_groups() == []
    assert await kept(groups) == await _recounted()


async def test_two_who_put_one_device_into_two_groups_at_once_count_it_once_above_them(postgres_tester: HouseTester) -> None:
    """Neither sees what the other has not committed: the device is held, so that the second counts after the first."""
    groups = await nested(postgres_tester, 1)
    sql = "INSERT INTO group_membership (group_id, device_id) VALUES ($1, $2)"
    first_has_written, second_begins = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with transaction():
            await execute(sql, [groups[1], IDS[0]])
            first_has_written.set()
            await second_begins.wait()
            while not await rows("SELECT 1 FROM pg_locks WHERE NOT granted"):  # until the second waits for us
                await asyncio.sleep(0.01)

    async def second() -> None:
        await first_has_written.wait()
        async with transaction():
            second_begins.set()
            await execute(sql, [groups[3], IDS[0]])

    await asyncio.wait_for(asyncio.gather(first(), second()), 30)

    assert await kept(groups) == {"fleet": 1, "fleet/north": 1, "fleet/north/ward": 0, "fleet/south": 1}


async def test_deleting_a_group_takes_what_only_it_held_out_of_the_groups_above(tester: HouseTester) -> None:
    groups = await nested(tester, 3)
    for place, device_id in ((2, IDS[0]), (2, IDS[1]), (3, IDS[1]), (1, IDS[2])):
        await GroupMembership.create(group_id=groups[place], device_id=device_id)
    assert await kept(groups) == {"fleet": 3, "fleet/north": 3, "fleet/north/ward": 2, "fleet/south": 1}

    await DeviceGroup.filter(id=groups[2]).delete()

    assert [await counting.in_group(each) for each in groups] == [2, 1, 0, 1]
    assert await counting.differences_of_groups() == []
    assert await GroupTally.filter(group_id=groups[2]).count() == 0


async def test_a_group_never_gets_another_parent(tester: HouseTester) -> None:
    """Its counts are part of those above it."""
    groups = await nested(tester, 0)

    with pytest.raises(IntegrityError, match="keeps its parent"):
        await DeviceGroup.filter(id=groups[2]).update(parent_id=groups[3])

    assert (await DeviceGroup.get(id=groups[2]).values("parent_id")) == {"parent_id": groups[1]}


async def test_a_recount_finds_a_groups_wrong_number_and_mends_it(tester: HouseTester) -> None:
    groups = await nested(tester, 2)
    await GroupMembership.create(group_id=groups[1], device_id=IDS[0])
    await GroupTally.create(group_id=groups[1], devices=2)

    assert await counting.differences_of_groups() == [GroupDifference(1, "fleet/north", kept=3, counted=1)]
    await counting.repair()
    assert await counting.differences_of_groups() == []
    await GroupMembership.create(group_id=groups[3], device_id=IDS[1])
    assert await kept(groups) == {"fleet": 2, "fleet/north": 1, "fleet/north/ward": 0, "fleet/south": 1}


async def test_counts_of_groups_begin_right_on_a_database_that_had_groups_before(settings: Settings) -> None:
    await migrate(settings, "0002_counts_of_devices")
    async with opened(settings):
        await execute(
            "INSERT INTO organization (id, slug, name, created_at, billing_state) VALUES (1, 'acme', 'Acme', $1, 'EXEMPT')", [NOW]
        )
        await Product.create(id=1, number=1000, organization_id=1, slug="p", name="P", platform="PHOTON", created_at=NOW)
        above = await DeviceGroup.create(product_id=1, name="a", path="a", created_at=NOW)
        below = await DeviceGroup.create(product_id=1, parent=above, name="b", path="a/b", created_at=NOW)
        for number, group_id in ((0, above.id), (0, below.id), (1, below.id)):
            await Device.get_or_create(device_id=IDS[number], defaults={"product_id": 1, "created_at": NOW})
            await GroupMembership.create(group_id=group_id, device_id=IDS[number])

    await migrate(settings)

    async with opened(settings):
        assert [await counting.in_group(above.id), await counting.in_group(below.id)] == [2, 2]
        assert await counting.differences_of_groups() == []
        await GroupMembership.filter(group_id=below.id, device_id=IDS[0]).delete()
        assert [await counting.in_group(above.id), await counting.in_group(below.id)] == [2, 1]
