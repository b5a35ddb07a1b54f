"""What is read for a decision: through every level of groups, for many devices at once, the highest release wins."""

import random
from datetime import UTC, datetime

import pytest

from fleet.firmware.fact_finding import decisions
from models.device import DeviceGroup, GroupMembership
from models.firmware import Firmware, GroupRelease, ProductRelease
from models.product import Product
from tests.firmware_house import device
from tests.house import HouseTester

PATHS = ("a", "a/b", "a/b/c", "a/b/c/d", "a_b", "a_b/c", "e", "e/a", "e/a/b")
VERSIONS = range(1, 8)


def oracle(own: set[str], released: dict[str, int], to_product: int | None) -> tuple[str, int | None]:
    above = {path for path in released for each in own if f"{each}/".startswith(f"{path}/")}
    if above:
        return "GROUP_RELEASE", max(released[path] for path in above)
    return ("PRODUCT_RELEASE", to_product) if to_product else ("NONE", None)


@pytest.mark.parametrize("seed", range(4))
async def test_the_highest_release_of_all_groups_at_and_above_a_device_s_own_wins(tester: HouseTester, seed: int) -> None:
    chance, now = random.Random(seed), datetime.now(UTC)
    await tester.product(await tester.owner())
    product = await Product.get()
    groups: dict[str, DeviceGroup] = {}
    for path in PATHS:
        parent, _, name = path.rpartition("/")
        groups[path] = await DeviceGroup.create(product=product, parent=groups.get(parent), name=name, path=path, created_at=now)
    text = {"format": "OPAQUE", "file_name": "a.bin", "size": 1, "sha256": "0" * 64, "verified": False, "uploaded_at": now}
    firmware = {n: await Firmware.create(product=product, version=n, title=str(n), title_key=str(n), **text) for n in VERSIONS}
    ids = [(await device(product.number, number)).device_id for number in range(1, 31)]
    own = {each: set(chance.sample(PATHS, chance.choice((0, 0, 1, 2, 3)))) for each in ids}
    await GroupMembership.bulk_create(GroupMembership(group_id=groups[path].id, device_id=each) for each in ids for path in own[each])

    for _ in range(5):
        released = {path: chance.choice(VERSIONS) for path in chance.sample(PATHS, chance.randrange(5))}
        to_product = chance.choice([None, *VERSIONS])
        await GroupRelease.all().delete()
        await ProductRelease.all().delete()
        for path, version in released.items():
            await GroupRelease.create(group=groups[path], firmware=firmware[version], released_at=now)
        if to_product:
            await ProductRelease.create(product=product, firmware=firmware[to_product], released_at=now)

        found = await decisions(ids)

        said = {each: (found[each].rule, (found[each].target or (0, None))[1]) for each in ids}
        assert said == {each: oracle(own[each], released, to_product) for each in ids}
