"""Releasing: the gate, what it is evaluated with, whom it moves, and taking it back."""

import asyncio
from typing import Any

import pytest

from fleet.firmware import releasing
from models.device import Device, DeviceGroup
from models.firmware import Firmware, GroupRelease, ProductRelease
from models.product import Product
from models.sql import execute, rows
from models.transaction import transaction
from tests.firmware_house import device, entries, uploaded
from tests.house import HouseTester

RELEASED = "firmware { version released releasedAt releasable notReleasableBecause runningOn groups { path } }"


async def test_release_is_refused_until_one_active_device_of_the_product_proved_it(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id, other = await tester.product(owner), await tester.product(owner, "Other")
    await uploaded(tester, owner, product_id, 3)
    await device(product_id, 1, version=3, state="QUARANTINED")
    await device(product_id, 2, version=3, proven=False)
    await device(product_id, 3, version=2)
    await device(other, 4, version=3)
    before = await tester.audited()

    payload = await tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=3)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("FIRMWARE_NOT_PROVEN", ["input", "version"])]
    assert await ProductRelease.all().count() == 0
    assert (await Product.get(number=product_id)).release_sequence == 0
    assert await tester.audited() == before
    assert await entries(kind="order") == []


@pytest.mark.parametrize("how", [{"development": True}, {"desired_firmware_version": 3}, {"forced": True}, {}])
async def test_any_active_device_that_runs_it_opens_the_gate_online_or_not(tester: HouseTester, how: dict[str, object]) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 3)
    await device(product_id, 1, version=3, **how)

    payload = await tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=3)

    assert payload["errors"] == []
    firmware = payload["firmware"]
    assert (firmware["released"], firmware["releasable"], firmware["notReleasableBecause"], firmware["runningOn"]) == (True, True, None, 1)
    assert (await Product.get(number=product_id)).release_sequence == 1
    assert (await tester.audited())[-1] == "firmware.released"
    assert await entries(kind="order") == [], "a standard release touches no device that is online"


async def test_an_immediate_release_has_every_session_of_the_product_decide_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 3)
    await device(product_id, 1, version=3)

    await tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=3, immediate=True)

    assert await entries(kind="order") == [("release", None)]
    assert (await ProductRelease.get()).immediate


async def test_a_release_to_a_group_and_its_withdrawal(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 3)
    await device(product_id, 1, version=3)
    await tester.do("createDeviceGroup", "group { id }", owner, productId=product_id, name="emea")

    released = await tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=3, group="emea")
    withdrawn = await tester.do("withdrawRelease", "product { releasedFirmware { version } }", owner, productId=product_id, group="emea")
    again = await tester.do("withdrawRelease", "product { productId }", owner, productId=product_id, group="emea")
    nowhere = await tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=3, group="apac")

    assert (released["firmware"]["groups"], released["firmware"]["released"]) == ([{"path": "emea"}], True)
    assert withdrawn["product"] == {"releasedFirmware": None}
    assert [(error["code"], error["path"]) for error in again["errors"]] == [("NOT_FOUND", ["input", "group"])]
    assert [error["code"] for error in nowhere["errors"]] == ["NOT_FOUND"]
    assert await GroupRelease.all().count() == 0
    assert (await tester.audited())[-2:] == ["firmware.released", "release.withdrawn"]
    assert (await Product.get(number=product_id)).release_sequence == 2
    assert (await Firmware.get(version=3)).released_at is not None, "once released it is never deleted"


async def test_releasing_an_older_version_is_a_downgrade_and_recorded_as_one(tester: HouseTester) -> None:
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, 1, 2)
    await device(product_id, 1, version=1)
    await device(product_id, 2, version=2)

    for version in (2, 1):
        assert (await tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=version))["errors"] == []

    audit = 'query { organization(slug: "acme") { auditLog(first: 2) { nodes { action detail } } } }'
    first = (await tester.ask(audit, owner))["organization"]["auditLog"]["nodes"][0]
    assert (first["action"], first["detail"]["before"], first["detail"]["downgrade"]) == ("firmware.released", 2, True)


@pytest.mark.parametrize("late", [True, False])
async def test_a_version_is_never_released_after_its_last_proving_device_is_gone(
    postgres_tester: HouseTester, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """R11: fifty tasks take the only proving device away while one releases; the one that does has to have seen no failed promise.

    `late`: they come between the guard and the commit of the release, where a guard without a lock would let them through.
    """
    tester, judged = postgres_tester, asyncio.Event()
    owner = await tester.owner()
    product_id = await tester.product(owner)
    recorded = releasing.record

    async def slowly(*args: Any, **detail: Any) -> None:
        judged.set()
        await asyncio.sleep(0.03)
        await recorded(*args, **detail)

    monkeypatch.setattr(releasing, "record", slowly)
    released: list[bool] = []
    for version in range(1, 11):
        await uploaded(tester, owner, product_id, version)
        proof = await device(product_id, version, version=version)
        judged.clear()
        released_before: list[bool] = []
        takers = [_take_away(proof, number, released_before, judged if late else None) for number in range(50)]

        release, *_ = await asyncio.gather(tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=version), *takers)

        assert released_before == [release["errors"] == []]
        released.append(release["errors"] == [])
        await Device.filter(device_id=proof.device_id).delete()

    assert all(released) if late else not all(released)


async def _take_away(proof: Device, number: int, released_before: list[bool], after: asyncio.Event | None) -> None:
    """Deny, downgrade or remove it; whoever did says whether the release was there first."""
    change = ("state = 'DENIED'", "firmware_version = 0", "product_id = NULL")[number % 3]
    if after is not None:
        await after.wait()
    async with transaction():
        still_there = "state = 'ACTIVE' AND firmware_version > 0 AND product_id IS NOT NULL"
        if await execute(f"UPDATE device SET {change} WHERE device_id = $1 AND {still_there}", [proof.device_id]):
            release = "SELECT 1 FROM product_release JOIN firmware ON firmware.id = firmware_id WHERE firmware.version = $1"
            released_before.append(bool(await rows(release, [int(proof.device_id, 16)])))


async def test_of_releases_at_once_all_agree_on_the_last(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    product_id = await tester.product(owner)
    await uploaded(tester, owner, product_id, *range(1, 9))
    for version in range(1, 9):
        await device(product_id, version, version=version)

    await asyncio.gather(*(tester.do("releaseFirmware", RELEASED, owner, productId=product_id, version=version) for version in range(1, 9)))

    audit = 'query { organization(slug: "acme") { auditLog(first: 8) { nodes { subject detail } } } }'
    acts = (await tester.ask(audit, owner))["organization"]["auditLog"]["nodes"]
    assert sorted(act["detail"]["sequence"] for act in acts) == list(range(1, 9))
    last = max(acts, key=lambda act: act["detail"]["sequence"])
    shown = await tester.ask("query ($p: Int!) { product(productId: $p) { releasedFirmware { version } } }", owner, p=product_id)
    assert last["subject"] == f"firmware:{product_id}/{shown['product']['releasedFirmware']['version']}"
    assert await DeviceGroup.all().count() == 0
