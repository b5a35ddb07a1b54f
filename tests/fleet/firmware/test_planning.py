"""Plans of a release: the same rules as for each device by itself, the devices and reasons shown, and a token for exactly that."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.firmware.deciding import FirmwareRule, decide
from fleet.firmware.fact_finding import facts_of
from fleet.firmware.planning import PlannedRelease
from models.device import Device, DeviceGroup, GroupMembership
from models.firmware import Firmware, GroupRelease, ProductRelease
from models.product import Product
from models.rollout import Rollout, RolloutDevice
from models.sql import Params, rows
from tests.firmware_house import connect, device, uploaded
from tests.house import HouseTester

PLAN = """query ($p: Int!, $v: Int!, $g: String, $after: Cursor) { planRelease(productId: $p, version: $v, group: $g) {
    token firmware { version } willUpdate downgrades alreadyRunning excluded { reason devices }
    devices(first: 2, after: $after) { totalCount nodes { deviceId } pageInfo { hasNextPage endCursor } } } }"""


async def plan(tester: HouseTester, token: str, product_id: int, version: int, **variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await tester.ask(PLAN, token, p=product_id, v=version, **variables))["planRelease"]
    return found


async def test_a_plan_decides_for_every_device_as_the_device_itself_will(tester: HouseTester) -> None:
    """Random fleets, marks, locks, groups, releases and rollouts: what SQL says of all is what decide() says of each after the release."""
    owner = await tester.owner()
    product_id = await tester.product(owner)
    firmwares = await uploaded(tester, owner, product_id, 1, 2, 3)
    product, dice, seen = await Product.get(number=product_id), random.Random(7), set()
    groups = await _groups(product)

    for _ in range(12):
        await _shuffle(product, firmwares, groups, dice)
        firmware, group = dice.choice(firmwares), dice.choice([None, *groups])
        values = Params()
        found = await rows(PlannedRelease(firmware, product, group).verdicts(values), values)
        if group is None:
            await ProductRelease.filter(product_id=product.id).delete()
            await ProductRelease.create(product=product, firmware=firmware, released_at=datetime.now(UTC))
        else:
            await GroupRelease.filter(group_id=group.id).delete()
            await GroupRelease.create(group=group, firmware=firmware, released_at=datetime.now(UTC))
        facts = await facts_of([row["device_id"] for row in found])
        mine = FirmwareRule.PRODUCT_RELEASE if group is None else FirmwareRule.GROUP_RELEASE
        for row in found:
            decision, runs = decide(facts[row["device_id"]].facts), facts[row["device_id"]].running_version == firmware.version
            planned = decision.rule is mine and decision.version == firmware.version
            assert row["verdict"] == (("RUNS" if runs else "UPDATE") if planned else str(decision.rule)), decision.because
            seen.add(row["verdict"])
    assert seen == {"NOT_ALLOWED", "DEVELOPMENT", "LOCKED", "ROLLOUT", "GROUP_RELEASE", "RUNS", "UPDATE"}


async def _groups(product: Product) -> list[DeviceGroup]:
    now, made = datetime.now(UTC), []
    for path in ("a", "a/b", "a_", "c"):
        parent = made[0] if path == "a/b" else None
        made.append(await DeviceGroup.create(product=product, name=path[-1], path=path, parent=parent, created_at=now))
    return made


async def _shuffle(product: Product, firmwares: list[Firmware], groups: list[DeviceGroup], dice: random.Random) -> None:
    """Another fleet of thirty, other releases, and perhaps a rollout."""
    await Rollout.all().delete()
    await ProductRelease.all().delete()
    await GroupRelease.all().delete()
    await Device.all().delete()
    product.allow_generic_firmware = dice.random() < 0.5
    await product.save()
    now = datetime.now(UTC)
    for group in groups:
        if dice.random() < 0.4:
            await GroupRelease.create(group=group, firmware=dice.choice(firmwares), released_at=now)
    rollout = await _perhaps_a_rollout(product, firmwares, groups, dice)
    for number in range(30):
        columns = {
            "state": dice.choice(["ACTIVE"] * 6 + ["QUARANTINED", "DENIED"]),
            "development": dice.random() < 0.1,
            "forced": dice.random() < 0.2,
            "desired_firmware_version": dice.choice([None] * 6 + [1, 3]),
            "firmware_version": dice.choice([1, 2, 3]),
            "proven": dice.random() < 0.8,
            "reported_product_id": dice.choice([product.number] * 5 + [6, 2000, None]),
            "platform": dice.choice(["PHOTON", "PHOTON", "P0", "ARGON", None]),
        }
        row = await device(product.number, number, version=None, **columns)
        if dice.random() < 0.8:
            await connect(row, now)
        for group in groups:
            if dice.random() < 0.2:
                await GroupMembership.create(group=group, device=row)
        if rollout is not None and dice.random() < 0.4:
            former = dice.choice([None, 1, 2])
            await RolloutDevice.create(rollout=rollout, device=row, stage=0, state="SUCCEEDED", former_version=former, offered_at=now)


async def _perhaps_a_rollout(product: Product, firmwares: list[Firmware], groups: list[DeviceGroup], dice: random.Random) -> Rollout | None:
    if dice.random() < 0.3:
        return None
    group = dice.choice([None, *groups])
    state, reach = dice.choice(["RUNNING", "PAUSED", "HALTED", "AWAITING_APPROVAL", "FINISHED"]), dice.choice(["", "80000000", "g"])
    return await Rollout.create(
        product=product, firmware=dice.choice(firmwares), group=group, to_group=group is not None, state=state, reach=reach,
        max_in_flight=1, rolls_back=dice.random() < 0.5, created_at=datetime.now(UTC), created_by="user:ann@example.com",
    )  # fmt: skip


async def test_a_plan_shows_who_would_update_who_not_and_why(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1, 2, 3)
    for number, version in enumerate((1, 1, 3, 2)):
        await device(product_id, number, version=version)
    await device(product_id, 10, development=True)
    await device(product_id, 11, desired_firmware_version=1)
    await device(product_id, 12, state="QUARANTINED")

    first = await plan(tester, owner, product_id, 2)
    rest = await plan(tester, owner, product_id, 2, after=first["devices"]["pageInfo"]["endCursor"])

    assert (first["firmware"], first["willUpdate"], first["downgrades"], first["alreadyRunning"]) == ({"version": 2}, 3, 1, 1)
    assert first["excluded"] == [{"reason": reason, "devices": 1} for reason in ("NOT_ALLOWED", "DEVELOPMENT", "LOCKED")]
    assert [node["deviceId"][-1] for node in first["devices"]["nodes"] + rest["devices"]["nodes"]] == ["0", "1", "2"]
    assert (first["devices"]["totalCount"], rest["devices"]["pageInfo"]["hasNextPage"]) == (3, False)


async def test_a_release_by_a_plan_is_refused_once_anything_of_it_has_changed(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1, 2)
    proof = await device(product_id, 1, version=2)
    moving = await device(product_id, 2, version=1)

    async def release(token: str, by: str = owner, **other: Any) -> list[tuple[str, list[str]]]:
        given = {"productId": product_id, "version": 2, "planToken": token, **other}
        payload = await tester.do("releaseFirmware", "clientMutationId", by, **given)
        return [(error["code"], error["path"]) for error in payload["errors"]]

    stale = [("PLAN_STALE", ["input", "planToken"])]
    token = (await plan(tester, owner, product_id, 2))["token"]
    bob = await tester.member(owner, "bob", "DEVELOPER")
    before = await tester.audited()
    assert await release("forged") == await release(token, bob) == await release(token, version=1) == stale
    await Device.filter(device_id=moving.device_id).update(firmware_version=2)
    assert await release(token) == stale, "it runs the version by now"
    await Device.filter(device_id=moving.device_id).update(firmware_version=1, development=True)
    assert await release(token) == stale, "another rule decides"
    await Device.filter(device_id=moving.device_id).update(development=False)
    added = await device(product_id, 3, version=1)
    assert await release(token) == stale, "one more"
    assert (await ProductRelease.all().count(), await tester.audited()) == (0, before)

    await added.delete()
    assert await release(token) == []
    assert (await ProductRelease.get().select_related("firmware")).firmware.version == 2
    assert (await Device.get(device_id=proof.device_id)).firmware_version == 2


async def test_of_a_device_that_joins_while_a_planned_release_is_made_one_of_the_two_comes_first(
    postgres_tester: HouseTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: a device committed before the release looks makes the plan stale, whatever the timing; the release never half happens."""
    tester = postgres_tester
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1, 2)
    await device(product_id, 1, version=2)
    outcomes = set()

    for number in range(10, 30):
        await ProductRelease.all().delete()
        token = (await plan(tester, owner, product_id, 2))["token"]
        joined_at: list[float] = []

        async def join(number: int = number, joined_at: list[float] = joined_at) -> None:
            await asyncio.sleep((number - 10) * 0.001)
            await device(product_id, number, version=1)
            joined_at.append(asyncio.get_running_loop().time())

        began_at = asyncio.get_running_loop().time()
        given = {"productId": product_id, "version": 2, "planToken": token}
        payload, _ = await asyncio.gather(tester.do("releaseFirmware", "clientMutationId", owner, **given), join())
        released = payload["errors"] == []
        outcomes.add(released)
        assert released == await ProductRelease.all().exists()
        assert released or joined_at[0] > began_at
        again = await tester.do("releaseFirmware", "clientMutationId", owner, **given)
        assert [error["code"] for error in again["errors"]] == ["PLAN_STALE"], "it is there by now"
    assert outcomes, "either order is sound"
