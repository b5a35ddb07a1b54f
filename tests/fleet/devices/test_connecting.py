"""A device's coming and going: where it is placed, what it may, and what the log is told."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.devices import connecting
from fleet.devices.connecting import Connected, Refused, Report
from fleet.firmware import updating
from models.account import User
from models.device import Device, DeviceState, Presence
from models.organization import BillingState, Organization
from models.product import Product
from realtime.presence import Leaving
from tests.connected import ID, a_device, a_product, entries, online
from tests.house import HouseTester

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def hello(tester: HouseTester, product_id: int | None = 1094, version: int | None = 3, **more: Any) -> Connected | Refused:
    now = more.pop("now", NOW)
    return (await connecting.hello([Report(ID, product_id, version, **more)], house=tester.house, now=now))[0]


async def admitted(tester: HouseTester, *report: Any, **more: Any) -> Connected:
    connected = await hello(tester, *report, **more)
    assert isinstance(connected, Connected)
    return connected


@pytest.fixture
async def product(tester: HouseTester) -> Product:
    await tester.owner()
    return await a_product(tester)


async def test_a_hello_of_an_imported_device_is_noted_and_told_once(tester: HouseTester, product: Product) -> None:
    await a_device(product)

    connected = await admitted(tester, platform="photon", serial_number="SN", functions=("led",), variables={"t": "double"}, address="::1")
    await admitted(tester)

    device, presence = await Device.get(device_id=ID), await Presence.get(device_id=ID)
    assert connected.standing.has_rights
    assert (device.reported_product_id, device.firmware_version, device.proven) == (1094, 3, True)
    assert (device.platform, device.serial_number) == ("PHOTON", "SN")
    assert (device.functions, device.variables) == ([], {})  # what the second hello said
    assert (presence.online, presence.epoch, presence.process) == (True, connected.epoch + 1, "p1")
    assert await entries("status") == [("FIRMWARE_CHANGED", ID, "3"), ("ONLINE", ID, None)]
    assert await entries("order") == []  # one process: the gateway closes the older session itself


async def test_a_device_that_reports_another_product_is_connected_without_rights(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    await a_product(tester, 2000)

    connected = await admitted(tester, 2000, 7)

    device = await Device.get(device_id=ID)
    assert not connected.standing.has_rights
    assert (device.product_id, device.state, device.proven) == (product.id, "ACTIVE", False)  # type: ignore[attr-defined]
    assert (await entries("status"))[-1] == ("ONLINE", ID, None)


async def test_force_lasts_until_the_device_reports_the_product_itself(tester: HouseTester, product: Product) -> None:
    await a_device(product, forced=True)

    first = await admitted(tester, 9999)
    second = await admitted(tester, None)
    still_forced = (await Device.get(device_id=ID)).forced
    third = await admitted(tester, 1094)
    cleared = (await Device.get(device_id=ID)).forced
    fourth = await admitted(tester, 9999)

    assert [each.standing.has_rights for each in (first, second, third, fourth)] == [True, True, True, False]
    assert (still_forced, cleared) == (True, False)


@pytest.mark.parametrize(("allowed", "reported", "has_rights"), [(True, 6, True), (True, 10, False), (False, 6, False)])
async def test_generic_firmware_counts_where_the_product_allows_it(
    tester: HouseTester, allowed: bool, reported: int, has_rights: bool
) -> None:
    await tester.owner()
    await a_device(await a_product(tester, allow_generic_firmware=allowed))

    assert (await admitted(tester, reported)).standing.has_rights is has_rights


async def test_a_kit_that_reports_a_product_goes_into_its_quarantine(tester: HouseTester, product: Product) -> None:
    await a_device(None, user_owner=await User.first())

    unknown = await admitted(tester, 4000)
    reporting = await admitted(tester)

    device = await Device.get(device_id=ID).select_related("product")
    assert (unknown.standing.product_number, unknown.standing.has_rights) == (0, False)
    assert (reporting.standing.product_number, reporting.standing.has_rights) == (1094, False)
    assert (device.product.number, device.state) == (1094, "QUARANTINED")
    assert (await entries("status"))[-1] == ("QUARANTINED", ID, None)
    assert (await tester.audited())[-1] == "device.quarantined"


async def test_a_device_never_imported_is_made_in_quarantine_by_the_key_of_the_product(tester: HouseTester, product: Product) -> None:
    connected = await admitted(tester, new_key="k" * 43, vouched_by=1094)

    device = await Device.get(device_id=ID).select_related("product")
    assert not connected.standing.has_rights
    assert (device.product.number, device.state, device.public_key) == (1094, "QUARANTINED", "k" * 43)
    assert await online() is True


@pytest.mark.parametrize(("owner", "vouched_by", "state"), [
    ("ann", None, "ACTIVE"), ("bob", None, "QUARANTINED"), (None, 1094, "ACTIVE"), (None, None, "QUARANTINED"),
])  # fmt: skip
async def test_auto_approval_is_for_members_kits_and_what_the_team_made(
    tester: HouseTester, owner: str | None, vouched_by: int | None, state: str
) -> None:
    """A key pinned under another product's provisioning key must not open this one."""
    await tester.owner()
    await tester.person("bob")
    await a_product(tester, auto_approve=True)
    kits = await User.get(email=f"{owner}@example.com") if owner else None
    await a_device(None, public_key="k" * 43, user_owner=kits, key_person_id=kits and kits.id)

    connected = await admitted(tester, vouched_by=vouched_by, proved_by="k" * 43)

    assert (await Device.get(device_id=ID)).state == state
    assert connected.standing.has_rights is (state == "ACTIVE")
    assert (await entries("status"))[0] == ("ADDED" if state == "ACTIVE" else "QUARANTINED", ID, None)


async def test_a_removed_device_that_comes_back_is_denied_and_stays_so(tester: HouseTester, product: Product) -> None:
    await a_device(None, removed_from=product)

    answers = [await hello(tester), await hello(tester), await hello(tester, 2000)]

    device = await Device.get(device_id=ID).select_related("product")
    assert answers == [Refused.DENIED] * 3
    assert (device.state, device.product.number) == ("DENIED", 1094)
    assert await online() is None
    assert await entries("status") == [("QUARANTINED", ID, None)]


async def test_a_removed_device_may_go_to_another_product(tester: HouseTester, product: Product) -> None:
    await a_product(tester, 2000)
    await a_device(None, removed_from=product)

    await admitted(tester, 2000)

    assert (await Device.get(device_id=ID)).state == DeviceState.QUARANTINED


async def test_a_quarantined_device_follows_what_it_reports(tester: HouseTester, product: Product) -> None:
    await a_product(tester, 2000)
    await a_device(product, state="QUARANTINED")

    await admitted(tester, 2000)

    assert (await Device.get(device_id=ID).select_related("product")).product.number == 2000
    assert (await entries("status"))[:2] == [("REMOVED", ID, None), ("QUARANTINED", ID, None)]


async def test_a_second_key_is_refused_and_changes_nothing(tester: HouseTester, product: Product) -> None:
    await a_device(product, public_key="k" * 43)

    assert await hello(tester, new_key="z" * 43) is Refused.ANOTHER_KEY

    assert (await Device.get(device_id=ID)).public_key == "k" * 43
    assert await entries() == []
    assert await online() is None


async def test_two_first_contacts_at_once_leave_one_key(postgres_tester: HouseTester) -> None:
    await postgres_tester.owner()
    await a_product(postgres_tester)

    answers = await asyncio.gather(*(hello(postgres_tester, new_key=letter * 43, vouched_by=1094) for letter in "abcdefgh"))

    assert sum(isinstance(answer, Connected) for answer in answers) == 1
    assert answers.count(Refused.ANOTHER_KEY) == 7
    assert await Device.all().count() == 1


async def test_an_inactive_organization_does_not_keep_devices_out(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    await Organization.filter(slug="acme").update(billing_state=BillingState.INACTIVE)

    assert (await admitted(tester)).standing.has_rights


async def test_a_late_goodbye_of_an_older_session_is_nothing(tester: HouseTester, product: Product, monkeypatch: Any) -> None:
    went: list[str] = []

    async def went_away(device_ids: Sequence[str]) -> None:
        went.extend(device_ids)

    monkeypatch.setattr(updating, "went_away", went_away)
    await a_device(product)
    old, new = await admitted(tester), await admitted(tester)

    await connecting.left([Leaving(ID, old.epoch)], now=NOW)
    after_old = await online()
    await connecting.left([Leaving(ID, new.epoch)], now=NOW)
    await connecting.left([Leaving(ID, new.epoch)], now=NOW)

    assert after_old is True
    assert await online() is False
    assert went == [ID]
    assert [name for name, *_ in await entries("status")] == ["FIRMWARE_CHANGED", "ONLINE", "OFFLINE"]


async def test_a_session_in_another_process_is_ordered_to_close(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    old = await admitted(tester)
    await Presence.filter(device_id=ID).update(process="p2")

    new = await admitted(tester)

    assert await entries("order") == [("close", ID, f"4409 {new.epoch}")]
    assert new.epoch > old.epoch


async def test_a_restart_is_told_only_of_devices_that_stay_away(tester: HouseTester, product: Product) -> None:
    await a_device(product)
    connected = await admitted(tester)

    await connecting.left([Leaving(ID, connected.epoch, 30)], now=NOW)
    told_early = await connecting.tell(NOW + timedelta(seconds=29))
    told = await connecting.tell(NOW + timedelta(seconds=31))

    assert (told_early, told) == (0, 1)
    assert [name for name, *_ in await entries("status")] == ["FIRMWARE_CHANGED", "ONLINE", "OFFLINE"]


async def test_batches_of_hellos_that_race_give_each_session_its_own_epoch(postgres_tester: HouseTester) -> None:
    await postgres_tester.owner()
    product = await a_product(postgres_tester)
    ids = [f"{number:024x}" for number in range(40)]
    for device_id in ids:
        await a_device(product, device_id)

    async def batch(process: str, order: list[str]) -> list[Connected | Refused]:
        house: Any = type("Other", (), {"process": type("Lease", (), {"process": process})})
        return await connecting.hello([Report(device_id, 1094, 3) for device_id in order], house=house, now=NOW)

    orders = {f"p{number}": random.Random(number).sample(ids, len(ids)) for number in range(6)}
    answers = dict(zip(orders, await asyncio.gather(*(batch(process, order) for process, order in orders.items())), strict=True))

    epochs: dict[str, dict[int, str]] = {device_id: {} for device_id in ids}
    for process, connected in answers.items():
        for device_id, each in zip(orders[process], connected, strict=True):
            assert isinstance(each, Connected)
            epochs[device_id][each.epoch] = process
    assert [sorted(of_device) for of_device in epochs.values()] == [[1, 2, 3, 4, 5, 6]] * len(ids)
    holders = {presence.device_id: (presence.process, presence.online) for presence in await Presence.all()}  # type: ignore[attr-defined]
    assert holders == {device_id: (of_device[6], True) for device_id, of_device in epochs.items()}
    told = [device_id for name, device_id, _ in await entries("status") if name == "ONLINE"]
    assert sorted(str(each) for each in told) == ids


async def test_a_hello_that_is_refused_takes_no_other_of_its_batch_along(tester: HouseTester, product: Product) -> None:
    await a_device(product, "1" * 24)
    await a_device(product, "2" * 24, public_key="K" * 43)
    await a_device(product, "3" * 24, state=DeviceState.DENIED)
    reports = [Report("0" * 24, 1094, 3), Report("2" * 24, 1094, 3, new_key="A" * 43), Report("3" * 24, 1094, 3), Report("1" * 24, 1094, 3)]

    gone, other_key, denied, let_in = await connecting.hello(reports, house=tester.house, now=NOW)

    assert (gone, other_key, denied) == (Refused.GONE, Refused.ANOTHER_KEY, Refused.DENIED)
    assert isinstance(let_in, Connected)
    assert [await online(digit * 24) for digit in "0123"] == [None, True, None, None]
    assert (await Device.get(device_id="2" * 24)).public_key == "K" * 43
