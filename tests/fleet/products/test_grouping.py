"""Groups: names, paths, and what is in them."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from errors import NotFound
from fleet.products.grouping import add_devices, devices_in, remove_devices, rename_group
from models.device import Device, DeviceGroup, GroupMembership
from models.firmware import Firmware, GroupRelease
from models.operations import AuditEntry
from models.product import Product
from tests.house import HouseTester

GROUP = "group { id name path }"
IDS = [f"{n:024x}" for n in range(1, 300)]


async def devices(number: int, *device_ids: str) -> None:
    product = await Product.get(number=number)
    for device_id in device_ids:
        await Device.create(device_id=device_id, product=product, created_at=datetime.now(UTC))


async def group(tester: HouseTester, token: str, name: str, parent: str | None = None, number: int = 1000) -> Any:
    payload = await tester.do("createDeviceGroup", GROUP, token, productId=number, name=name, parent=parent)
    assert payload["errors"] == []
    return payload["group"]


async def members(group: Any) -> list[str]:
    path = group["path"]
    return sorted(await GroupMembership.filter(group__path=path).values_list("device_id", flat=True))


async def test_groups_are_nested_and_found_by_path_name_and_id(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    emea = await group(tester, owner, "emea")
    hospital = await group(tester, owner, "hospital-7", "emea")
    await group(tester, owner, "ward_1", "hospital-7")

    tree = "{ path parent { path } children { path children { path } } releasedFirmware { version } }"
    product = (
        await tester.ask(
            f"""{{ product(productId: 1000) {{
                groups {tree}
                path: group(name: "emea/hospital-7") {{ id }}
                name: group(name: "hospital-7") {{ id }}
                none: group(name: "apac") {{ id }}
            }} }}""",
            owner,
        )
    )["product"]
    node = (await tester.ask("query ($id: ID!) { node(id: $id) { ... on DeviceGroup { path } } }", owner, id=hospital["id"]))["node"]

    ward = {"path": "emea/hospital-7/ward_1"}
    assert product["groups"] == [
        {"path": "emea", "parent": None, "children": [{"path": "emea/hospital-7", "children": [ward]}], "releasedFirmware": None},
        {"path": "emea/hospital-7", "parent": {"path": "emea"}, "children": [ward | {"children": []}], "releasedFirmware": None},
        ward | {"parent": {"path": "emea/hospital-7"}, "children": [], "releasedFirmware": None},
    ]
    assert product["path"] == product["name"] == {"id": hospital["id"]}
    assert product["none"] is None
    assert node == {"path": "emea/hospital-7"}
    assert emea["path"] == "emea"


async def test_a_name_that_two_groups_bear_names_neither(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    for parent in ("north", "south"):
        await group(tester, owner, parent)
        await group(tester, owner, "lab", parent)

    found = await tester.ask('{ product(productId: 1000) { group(name: "lab") { id } } }', owner)
    payload = await tester.do("createDeviceGroup", GROUP, owner, productId=1000, name="desk", parent="lab")

    assert found["product"]["group"] is None
    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("NOT_FOUND", ["input", "parent"])]


@pytest.mark.parametrize("name", ["", "EMEA", "a b", "a/b", "a" * 65, "é", "lab\n"])
async def test_a_groups_name_is_refused_rather_than_mended(tester: HouseTester, name: str) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    lab = await group(tester, owner, "lab")
    before = await tester.audited()

    refused = [
        await tester.do("createDeviceGroup", GROUP, owner, productId=1000, name=name),
        await tester.do("renameDeviceGroup", GROUP, owner, id=lab["id"], name=name),
    ]

    assert [(error["code"], error["path"]) for payload in refused for error in payload["errors"]] == [
        ("INVALID_INPUT", ["input", "name"])
    ] * 2
    assert [group.path for group in await DeviceGroup.all()] == ["lab"]
    assert await tester.audited() == before


async def test_groups_are_eight_deep_and_not_nine(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    path = None
    for level in range(8):
        path = (await group(tester, owner, f"{level}" * 64, path))["path"]

    payload = await tester.do("createDeviceGroup", GROUP, owner, productId=1000, name="8", parent=path)

    assert path is not None
    assert len(path) == 8 * 64 + 7
    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "parent"])]
    assert await DeviceGroup.all().count() == 8


async def test_a_path_is_unique_in_its_product_only(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    await tester.product(owner)
    await group(tester, owner, "lab")

    again = await tester.do("createDeviceGroup", GROUP, owner, productId=1000, name="lab")
    elsewhere = await group(tester, owner, "lab", number=1001)

    assert [(error["code"], error["path"]) for error in again["errors"]] == [("ALREADY_EXISTS", ["input", "name"])]
    assert elsewhere["path"] == "lab"


async def test_a_renamed_group_takes_what_is_inside_along_and_nothing_else(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    await tester.product(owner)
    for name, parent, number in (
        ("a_c", None, 1000),
        ("in", "a_c", 1000),
        ("deep", "a_c/in", 1000),
        ("abc", None, 1000),
        ("in", "abc", 1000),
        ("a_c2", None, 1000),
        ("a_c", None, 1001),
        ("in", "a_c", 1001),
    ):
        await group(tester, owner, name, parent, number)
    (renamed,) = await DeviceGroup.filter(path="a_c/in", product__number=1000)

    top = (await tester.ask('{ product(productId: 1000) { group(name: "a_c") { id } } }', owner))["product"]["group"]
    payload = await tester.do("renameDeviceGroup", GROUP, owner, id=top["id"], name="europe")

    assert payload["group"] == {"id": top["id"], "name": "europe", "path": "europe"}
    paths = sorted(await DeviceGroup.all().values_list("product__number", "path"))
    assert paths == [
        (1000, "a_c2"),
        (1000, "abc"),
        (1000, "abc/in"),
        (1000, "europe"),
        (1000, "europe/in"),
        (1000, "europe/in/deep"),
        (1001, "a_c"),
        (1001, "a_c/in"),
    ]
    assert (await DeviceGroup.get(id=renamed.id)).name == "in"
    assert (await AuditEntry.filter(action="group.renamed").get()).detail == {"before": "a_c", "after": "europe"}


async def test_renaming_to_a_taken_name_is_refused_and_to_ones_own_does_nothing(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    north, _ = await group(tester, owner, "north"), await group(tester, owner, "south")
    before = await tester.audited()

    taken = await tester.do("renameDeviceGroup", GROUP, owner, id=north["id"], name="south")
    same = await tester.do("renameDeviceGroup", GROUP, owner, id=north["id"], name="north")

    assert [error["code"] for error in taken["errors"]] == ["ALREADY_EXISTS"]
    assert same["group"]["path"] == "north"
    assert sorted(await DeviceGroup.all().values_list("path", flat=True)) == ["north", "south"]
    assert await tester.audited() == before


async def test_devices_are_added_and_removed_and_again_is_no_error(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    lab = await group(tester, owner, "lab")
    await devices(number, *IDS[:3])
    answer = "group { path devices { nodes { deviceId } totalCount } } rejected { deviceId code }"

    added = await tester.do("addDevicesToGroup", answer, owner, groupId=lab["id"], deviceIds=[IDS[1].upper(), IDS[0], IDS[0]])
    more = await tester.do("addDevicesToGroup", answer, owner, groupId=lab["id"], deviceIds=IDS[:3])
    again = await tester.do("addDevicesToGroup", answer, owner, groupId=lab["id"], deviceIds=IDS[:3])
    removed = await tester.do("removeDevicesFromGroup", answer, owner, groupId=lab["id"], deviceIds=IDS[1:3])
    gone = await tester.do("removeDevicesFromGroup", answer, owner, groupId=lab["id"], deviceIds=IDS[1:3])

    assert [payload["errors"] + payload["rejected"] for payload in (added, more, again, removed, gone)] == [[]] * 5
    assert added["group"]["devices"] == {"nodes": [{"deviceId": IDS[0]}, {"deviceId": IDS[1]}], "totalCount": 2}
    assert again["group"]["devices"]["totalCount"] == 3
    assert gone["group"]["devices"]["nodes"] == [{"deviceId": IDS[0]}]
    recorded = await AuditEntry.filter(action__startswith="group.devices").order_by("id").values_list("action", "detail")
    assert [(action, detail["devices"]) for action, detail in recorded] == [
        ("group.devices_added", IDS[:2]),
        ("group.devices_added", IDS[2:3]),
        ("group.devices_removed", IDS[1:3]),
    ]


async def test_foreign_devices_are_rejected_and_the_others_are_done(tester: HouseTester) -> None:
    owner = await tester.owner()
    number, other = await tester.product(owner), await tester.product(owner)
    lab = await group(tester, owner, "lab")
    await devices(number, IDS[0])
    await devices(other, IDS[1])
    answer = "group { path } rejected { deviceId code message }"
    refusal = {"code": "NOT_FOUND", "message": "The product has no such device."}

    some = await tester.do("addDevicesToGroup", answer, owner, groupId=lab["id"], deviceIds=IDS[:3])
    before = await tester.audited()
    none = await tester.do("addDevicesToGroup", answer, owner, groupId=lab["id"], deviceIds=IDS[1:3])

    assert some["errors"] == []
    assert some["rejected"] == none["rejected"] == [{"deviceId": IDS[1]} | refusal, {"deviceId": IDS[2]} | refusal]
    assert [error["code"] for error in none["errors"]] == ["NOT_FOUND"]
    assert await members(lab) == IDS[:1]
    assert await tester.audited() == before


async def test_a_list_holds_at_most_250_devices(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    lab = await group(tester, owner, "lab")
    await devices(number, IDS[0])

    payload = await tester.do("addDevicesToGroup", GROUP, owner, groupId=lab["id"], deviceIds=IDS[:251])

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "deviceIds"])]
    assert await members(lab) == []


async def test_what_is_in_a_group_is_in_all_above_it_once(tester: HouseTester) -> None:
    owner = await tester.owner()
    number, other = await tester.product(owner), await tester.product(owner)
    for name, parent in (("a_c", None), ("in", "a_c"), ("abc", None), ("in", "abc")):
        await group(tester, owner, name, parent)
    await group(tester, owner, "a_c", number=other)
    await group(tester, owner, "in", "a_c", number=other)
    await devices(number, *IDS[:4])
    await devices(other, IDS[4])
    for path, owned, of in (
        ("a_c", IDS[:2], number),
        ("a_c/in", IDS[1:3], number),
        ("abc/in", IDS[3:4], number),
        ("a_c/in", IDS[4:5], other),
    ):
        found = await DeviceGroup.get(path=path, product__number=of)
        await GroupMembership.bulk_create(GroupMembership(group_id=found.id, device_id=device_id) for device_id in owned)

    top = await DeviceGroup.get(path="a_c", product__number=number)
    listed = await tester.ask(
        '{ product(productId: 1000) { group(name: "a_c") { devices(first: 2) { totalCount nodes { deviceId } } } } }', owner
    )

    assert sorted(await devices_in(top).values_list("device_id", flat=True)) == IDS[:3]
    assert listed["product"]["group"]["devices"] == {"totalCount": 3, "nodes": [{"deviceId": IDS[0]}, {"deviceId": IDS[1]}]}


async def test_a_deleted_group_leaves_its_devices_and_ends_its_release(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    lab = await group(tester, owner, "lab")
    await devices(number, IDS[0])
    await tester.do("addDevicesToGroup", GROUP, owner, groupId=lab["id"], deviceIds=IDS[:1])
    now, row, product = datetime.now(UTC), await DeviceGroup.get(), await Product.get()
    text = {"title": "One", "title_key": "one", "format": "OPAQUE", "file_name": "a.bin", "size": 1, "sha256": "0" * 64}
    firmware = await Firmware.create(product=product, version=7, verified=False, uploaded_at=now, **text)
    await GroupRelease.create(group=row, firmware=firmware, released_at=now)

    shown = await tester.ask('{ product(productId: 1000) { group(name: "lab") { releasedFirmware { version } } } }', owner)
    payload = await tester.do("deleteDeviceGroup", "clientMutationId", owner, id=lab["id"])
    again = await tester.do("deleteDeviceGroup", "clientMutationId", owner, id=lab["id"])

    assert shown["product"]["group"] == {"releasedFirmware": {"version": 7}}
    assert payload["errors"] == []
    assert [error["code"] for error in again["errors"]] == ["NOT_FOUND"]
    assert (await DeviceGroup.all().count(), await GroupMembership.all().count(), await GroupRelease.all().count()) == (0, 0, 0)
    assert await Device.filter(product_id=product.id).count() == 1
    assert (await AuditEntry.filter(action="group.deleted").get()).detail == {"path": "lab", "devices": 1}


async def test_a_group_with_groups_inside_is_not_deleted(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    north, _ = await group(tester, owner, "north"), await group(tester, owner, "lab", "north")
    before = await tester.audited()

    payload = await tester.do("deleteDeviceGroup", "clientMutationId", owner, id=north["id"])

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "id"])]
    assert await DeviceGroup.all().count() == 2
    assert await tester.audited() == before


async def test_below_developer_and_outside_the_team_nobody_touches_groups(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    number = await tester.product(owner)
    bob = await tester.member(owner, "bob", "SUPPORT")
    lab = await group(tester, owner, "lab")
    await devices(number, IDS[0])
    before = await tester.audited()

    codes = []
    for token in (bob, eve):
        refused = [
            await tester.do("createDeviceGroup", GROUP, token, productId=number, name="new"),
            await tester.do("renameDeviceGroup", GROUP, token, id=lab["id"], name="new"),
            await tester.do("addDevicesToGroup", GROUP, token, groupId=lab["id"], deviceIds=IDS[:1]),
            await tester.do("removeDevicesFromGroup", GROUP, token, groupId=lab["id"], deviceIds=IDS[:1]),
            await tester.do("deleteDeviceGroup", "clientMutationId", token, id=lab["id"]),
        ]
        codes.append([error["code"] for payload in refused for error in payload["errors"]])
    seen = await tester.ask("query ($id: ID!) { node(id: $id) { id } }", eve, id=lab["id"])

    assert codes == [["FORBIDDEN"] * 5, ["NOT_FOUND"] * 5]
    assert seen == {"node": None}
    assert [group.path for group in await DeviceGroup.all()] == ["lab"]
    assert await GroupMembership.all().count() == 0
    assert await tester.audited() == before


async def test_of_two_groups_of_one_path_made_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    await tester.product(owner)

    answers = await asyncio.gather(*(tester.do("createDeviceGroup", GROUP, owner, productId=1000, name="lab") for _ in range(5)))

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["ALREADY_EXISTS"] * 4
    assert await DeviceGroup.all().count() == 1


async def test_a_group_that_was_deleted_meanwhile_takes_no_devices_and_no_name(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    await devices(number, IDS[0])
    lab = await group(tester, owner, "lab")
    stale = await DeviceGroup.get().select_related("product__organization")
    await tester.do("deleteDeviceGroup", "clientMutationId", owner, id=lab["id"])
    before, viewer = await tester.audited(), (await tester.context(owner)).viewer

    for late in (add_devices(stale, IDS[:1], by=viewer), remove_devices(stale, IDS[:1], by=viewer), rename_group(stale, "x", by=viewer)):
        with pytest.raises(NotFound):
            await late

    assert await GroupMembership.all().count() == 0
    assert await tester.audited() == before
