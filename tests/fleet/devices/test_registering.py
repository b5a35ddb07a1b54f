"""Devices one by one: kits, keys, names."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from auth.tokens import Kind, kind_of
from models.account import User
from models.device import Device
from models.log import LogEntry
from models.product import Product
from tests.house import HouseTester

ID = "55ff6d04498b49aabbccdd01"
DEVICE = "device { deviceId name product { productId } userOwner { email } state } secret"
KEYS = [base64.urlsafe_b64encode(bytes([number]) * 32).rstrip(b"=").decode() for number in (1, 2)]


async def in_a_product(tester: HouseTester, **columns: Any) -> str:
    owner = await tester.owner()
    product = await Product.get(number=await tester.product(owner))
    await Device.create(device_id=ID, product=product, created_at=datetime.now(UTC), **columns)
    return owner


async def test_nobodys_device_becomes_the_persons_own_kit_with_a_secret_shown_once(tester: HouseTester) -> None:
    ann = await tester.person()

    payload = await tester.do("registerDevice", DEVICE, ann, deviceId=ID.upper(), name="Bench")

    assert payload["errors"] == []
    assert payload["device"] == {
        "deviceId": ID,
        "name": "Bench",
        "product": None,
        "userOwner": {"email": "ann@example.com"},
        "state": "ACTIVE",
    }
    assert kind_of(payload["secret"]) is Kind.DEVICE_SECRET
    stored = await Device.get(device_id=ID)
    assert payload["secret"] not in stored.secret
    assert tester.house.sealer.unseal(stored.secret, context=f"device/{ID}/secret") == payload["secret"]
    own = await tester.ask("{ viewer { devices { totalCount nodes { deviceId } } } }", ann)
    assert own["viewer"]["devices"] == {"totalCount": 1, "nodes": [{"deviceId": ID}]}


async def test_a_key_for_the_teams_device_makes_nobody_its_owner(tester: HouseTester) -> None:
    owner = await in_a_product(tester)

    payload = await tester.do("registerDevice", DEVICE, owner, deviceId=ID, publicKey=KEYS[0])

    assert payload["errors"] == []
    assert (payload["secret"], payload["device"]["userOwner"], payload["device"]["product"]) == (None, None, {"productId": 1000})
    device = await Device.get(device_id=ID)
    assert (device.public_key, device.secret) == (KEYS[0], None)
    assert await LogEntry.all().count() == 0


async def test_a_second_key_needs_rotate_and_the_refusal_is_audited(tester: HouseTester) -> None:
    owner = await in_a_product(tester, public_key=KEYS[0])

    same = await tester.do("registerDevice", DEVICE, owner, deviceId=ID, publicKey=KEYS[0])
    other = await tester.do("registerDevice", DEVICE, owner, deviceId=ID, publicKey=KEYS[1])
    secret = await tester.do("registerDevice", DEVICE, owner, deviceId=ID)

    assert same["errors"] == []
    assert [(error["code"], error["path"]) for error in other["errors"] + secret["errors"]] == [
        ("ALREADY_EXISTS", ["input", "publicKey"]),
        ("ALREADY_EXISTS", ["input", "publicKey"]),
    ]
    assert (other["device"], secret["secret"]) == (None, None)
    assert (await Device.get(device_id=ID)).public_key == KEYS[0]
    assert (await tester.audited())[-2:] == ["device.key_refused", "device.key_refused"]
    assert await LogEntry.all().count() == 0


async def test_rotating_replaces_the_key_and_ends_the_session(tester: HouseTester) -> None:
    owner = await in_a_product(tester, public_key=KEYS[0])

    payload = await tester.do("registerDevice", DEVICE, owner, deviceId=ID, rotate=True)

    device = await Device.get(device_id=ID)
    assert device.public_key is None
    assert tester.house.sealer.unseal(device.secret, context=f"device/{ID}/secret") == payload["secret"]
    (entry,) = await LogEntry.all()
    assert (entry.kind, entry.name, entry.device_id, entry.data, entry.product_number) == ("order", "close", ID, "4401", 1000)


@pytest.mark.parametrize("key", ["", "abc", KEYS[0] + "=", KEYS[0][:-1], KEYS[0][:-1] + "F", "ä" * 43, KEYS[0].replace("A", "+")])
async def test_what_is_no_key_is_refused(tester: HouseTester, key: str) -> None:
    ann = await tester.person()

    payload = await tester.do("registerDevice", DEVICE, ann, deviceId=ID, publicKey=key)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "publicKey"])]
    assert await Device.all().count() == 0


async def test_a_device_of_others_is_not_found_and_not_touched(tester: HouseTester) -> None:
    """A kit of somebody else, a device of another team, and one that another team has removed."""
    await in_a_product(tester)
    eve = await tester.owner("eve", "Other")
    product, ann = await Product.get(number=1000), await User.get(email="ann@example.com")
    kit, removed = "0" * 24, "1" * 24
    await Device.create(device_id=kit, user_owner=ann, created_at=datetime.now(UTC))
    await Device.create(device_id=removed, removed_from=product, created_at=datetime.now(UTC))
    before, audited = await Device.all().order_by("device_id").values(), await tester.audited()

    answers = [await tester.do("registerDevice", DEVICE, eve, deviceId=each, rotate=True) for each in (ID, kit, removed)]
    answers += [await tester.do("updateDevice", "device { name }", eve, deviceId=each, name="x") for each in (ID, kit, removed)]

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["NOT_FOUND"] * 6
    assert await Device.all().order_by("device_id").values() == before
    assert await tester.audited() == audited


async def test_of_two_people_registering_one_device_at_once_one_gets_it(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    people = [await tester.person("ann"), await tester.person("bob")]
    for number in range(20):
        device_id = f"{number:024x}"

        answers = await asyncio.gather(*(tester.do("registerDevice", DEVICE, token, deviceId=device_id) for token in people))

        assert [error["code"] for answer in answers for error in answer["errors"]] == ["NOT_FOUND"]


@pytest.mark.parametrize("role", ["VIEWER", "SUPPORT"])
async def test_below_developer_nobody_sets_keys_or_names_of_the_teams_devices(tester: HouseTester, role: str) -> None:
    owner = await in_a_product(tester)
    bob = await tester.member(owner, "bob", role)
    before, audited = await Device.all().values(), await tester.audited()

    registered = await tester.do("registerDevice", DEVICE, bob, deviceId=ID)
    updated = await tester.do("updateDevice", "device { name }", bob, deviceId=ID, name="x")

    assert [error["code"] for error in registered["errors"] + updated["errors"]] == ["FORBIDDEN", "FORBIDDEN"]
    assert (await Device.all().values(), await tester.audited()) == (before, audited)


async def test_names_notes_and_the_development_mark_change_one_by_one(tester: HouseTester) -> None:
    owner = await in_a_product(tester, name="Old", notes="keep")
    answer = "device { name notes development }"

    marked = await tester.do("updateDevice", answer, owner, deviceId=ID, name=" Porch ", development=True)
    emptied = await tester.do("updateDevice", answer, owner, deviceId=ID, name=None)
    audited = await tester.audited()
    unchanged = await tester.do("updateDevice", answer, owner, deviceId=ID, development=True)

    assert marked["device"] == {"name": "Porch", "notes": "keep", "development": True}
    assert emptied["device"] == {"name": None, "notes": "keep", "development": True}
    assert unchanged["device"] == emptied["device"]
    assert audited[-2:] == ["device.updated", "device.updated"]
    assert await tester.audited() == audited


async def test_a_token_without_the_scope_changes_no_kit_and_reads_none(tester: HouseTester) -> None:
    ann = await tester.person()
    await tester.do("registerDevice", DEVICE, ann, deviceId=ID)
    made = await tester.do("createAccessToken", "token", ann, name="x", scopes=["account:read"])

    answers = [
        await tester.do("registerDevice", DEVICE, made["token"], deviceId="0" * 24),
        await tester.do("updateDevice", "device { name }", made["token"], deviceId=ID, name="x"),
    ]

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["FORBIDDEN", "FORBIDDEN"]
    assert await Device.all().values_list("device_id", "name") == [(ID, None)]
