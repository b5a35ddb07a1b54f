"""How many devices are in a group and all inside it: right at every level, also while they move."""

import asyncio
import random

from fleet.grouping import add_devices, remove_devices
from models.device import DeviceGroup, GroupMembership
from tests.fleet.test_grouping import IDS, devices, group
from tests.house import HouseTester

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
