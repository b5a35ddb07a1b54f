"""Whose key speaks for a device: the team that takes it in wins over whoever named its id first."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet.devices import connecting
from fleet.devices.connecting import Connected, Refused, Report
from models.account import User
from models.device import Device
from models.operations import AuditEntry
from models.organization import Member, ProductRole
from models.product import Product
from public_keys import public_half, to_base64url
from simulator.flash import Flash
from tests.connected import ID, a_device, a_product, entries, serving, until
from tests.house import HouseTester

NOW = datetime.now(UTC)
EVES, ANNS = [base64.urlsafe_b64encode(bytes([number]) * 32).rstrip(b"=").decode() for number in (1, 2)]
CLOSE = ("close", ID, "4401")


async def teams(tester: HouseTester) -> tuple[str, str, Product]:
    """Ann, whose team has the product, and Eve, who has another one."""
    ann, eve = await tester.owner(), await tester.owner("eve", "Other")
    return ann, eve, await a_product(tester)


async def registered(tester: HouseTester, token: str, key: str, **more: Any) -> list[str]:
    payload = await tester.do("registerDevice", "secret", token, deviceId=ID, publicKey=key, **more)
    return [error["code"] for error in payload["errors"]]


async def says_hello(tester: HouseTester, product_id: int = 1094, **proof: Any) -> Connected | Refused:
    return (await connecting.hello([Report(ID, product_id, 3, **proof)], house=tester.house, now=datetime.now(UTC)))[0]


async def approved(tester: HouseTester, token: str) -> list[str]:
    payload = await tester.do("approveDevices", "devices { state }", token, deviceIds=[ID])
    return [error["code"] for error in payload["errors"]]


async def imported(tester: HouseTester, token: str) -> dict[str, Any]:
    payload = await tester.do("importDevices", "import { id rows { nodes { verdict } } }", token, productId=1094, deviceIds=[ID])
    assert payload["errors"] == []
    answer: dict[str, Any] = payload["import"]
    return answer


async def key() -> str | None:
    return (await Device.get(device_id=ID)).public_key


async def test_the_key_of_a_stranger_falls_when_the_team_approves_the_device(tester: HouseTester) -> None:
    ann, eve, _ = await teams(tester)
    assert await registered(tester, eve, EVES) == []
    assert isinstance(await says_hello(tester, proved_by=EVES), Connected)
    assert await key() == EVES

    assert await approved(tester, ann) == []

    assert await key() is None
    assert CLOSE in await entries("order")
    assert (await tester.audited())[-2:] == ["device.approved", "device.keys_ended"]
    said = await AuditEntry.get(action="device.keys_ended")
    assert (said.actor, said.subject, said.detail) == ("user:ann@example.com", "product:1094", {"deviceIds": [ID]})
    assert await says_hello(tester, proved_by=EVES) is Refused.KEY_ENDED
    assert isinstance(await says_hello(tester, new_key=ANNS, vouched_by=1094), Connected), "its own is pinned by the provisioning key"
    assert await key() == ANNS


async def test_who_named_the_id_first_has_no_say_over_the_key_any_more(tester: HouseTester) -> None:
    ann, eve, _ = await teams(tester)
    await registered(tester, eve, EVES)
    await says_hello(tester, proved_by=EVES)
    await approved(tester, ann)
    before, audited = await Device.all().values(), await tester.audited()

    assert await registered(tester, eve, EVES) == ["NOT_FOUND"]
    assert await registered(tester, eve, EVES, rotate=True) == ["NOT_FOUND"]

    assert (await Device.all().values(), await tester.audited()) == (before, audited)
    assert await registered(tester, ann, ANNS) == [], "a first key needs no rotate"
    assert await key() == ANNS


async def test_a_key_that_another_team_has_pinned_falls_at_import_and_returns_with_its_undo(tester: HouseTester) -> None:
    """Eve's team can make any id known by its own provisioning key; nobody owns such a device."""
    ann, _, _ = await teams(tester)
    await a_product(tester, 2000, organization="other")
    assert isinstance(await says_hello(tester, 2000, new_key=EVES, vouched_by=2000), Connected)
    before = await Device.get(device_id=ID).values()

    answer = await imported(tester, ann)

    assert answer["rows"]["nodes"] == [{"verdict": "ADDED"}]
    assert await key() is None
    assert CLOSE in await entries("order")
    assert (await tester.audited())[-2:] == ["device.imported", "device.keys_ended"]
    undone = await tester.do("undoImport", "import { undoneAt }", ann, importId=answer["id"])
    assert undone["import"]["undoneAt"] is not None
    assert await Device.get(device_id=ID).values() == before


async def test_it_falls_too_where_the_device_came_by_another_quarantine(tester: HouseTester) -> None:
    ann, _, _ = await teams(tester)
    await a_product(tester, 2000, organization="other")
    await says_hello(tester, 2000, new_key=EVES, vouched_by=2000)
    assert isinstance(await says_hello(tester, 1094, proved_by=EVES), Connected)

    await approved(tester, ann)

    assert await key() is None


async def test_a_key_that_the_product_vouched_for_stays(tester: HouseTester) -> None:
    ann, _, _ = await teams(tester)
    await says_hello(tester, new_key=ANNS, vouched_by=1094)

    await approved(tester, ann)

    assert await key() == ANNS
    assert CLOSE not in await entries("order")
    assert (await tester.audited())[-1] == "device.approved"


async def test_a_key_that_the_team_has_said_itself_before_stays(tester: HouseTester) -> None:
    ann, eve, _ = await teams(tester)
    await registered(tester, eve, EVES)
    await says_hello(tester, proved_by=EVES)

    assert await registered(tester, ann, EVES) == [], "the same key, on the team's word"
    await approved(tester, ann)

    assert await key() == EVES


@pytest.mark.parametrize("way", ["import", "approval"])
async def test_a_members_own_kit_keeps_its_key_and_its_owner_may_change_it(tester: HouseTester, way: str) -> None:
    ann, _, _ = await teams(tester)
    bob = await tester.member(ann, "bob", "VIEWER")
    await registered(tester, bob, ANNS)
    if way == "import":
        assert (await imported(tester, ann))["rows"]["nodes"] == [{"verdict": "ADDED"}]
    else:
        await says_hello(tester, proved_by=ANNS)
        await approved(tester, ann)
    assert await key() == ANNS

    assert await registered(tester, bob, EVES) == ["ALREADY_EXISTS"]
    assert await registered(tester, bob, EVES, rotate=True) == []

    assert await key() == EVES


async def test_whoever_has_left_the_team_leaves_the_key_of_the_kit_that_it_took_in(tester: HouseTester) -> None:
    ann, _, _ = await teams(tester)
    bob = await tester.member(ann, "bob", "DEVELOPER")
    await registered(tester, bob, ANNS)
    await imported(tester, ann)
    await Member.filter(user__email="bob@example.com").delete()

    assert await registered(tester, bob, EVES, rotate=True) == ["NOT_FOUND"]

    assert await key() == ANNS
    assert await registered(tester, ann, EVES, rotate=True) == []


async def test_a_kit_claimed_by_an_outsider_is_still_no_device_to_import(tester: HouseTester) -> None:
    """The guide: "already claimed by someone outside of your team"."""
    ann, eve, _ = await teams(tester)
    await registered(tester, eve, EVES)

    assert (await imported(tester, ann))["rows"]["nodes"] == [{"verdict": "CLAIMED_BY_OUTSIDER"}]

    assert await key() == EVES


async def test_whoever_is_in_the_team_for_another_product_is_a_stranger_to_this_one(tester: HouseTester) -> None:
    ann, _, _ = await teams(tester)
    bob = await tester.member(ann, "bob", "NONE")
    await ProductRole.create(member=await Member.get(user__email="bob@example.com"), product=await a_product(tester, 1095), role="OWNER")
    await registered(tester, bob, EVES)
    await Product.all().update(auto_approve=True)

    assert (await imported(tester, ann))["rows"]["nodes"] == [{"verdict": "CLAIMED_BY_OUTSIDER"}]
    await says_hello(tester, proved_by=EVES)
    assert (await Device.get(device_id=ID)).state == "QUARANTINED"
    await approved(tester, ann)

    assert await key() is None
    assert await registered(tester, bob, EVES) == ["NOT_FOUND"]


async def test_a_members_kit_with_the_key_of_a_stranger_waits_for_a_person(tester: HouseTester) -> None:
    await teams(tester)
    await Product.all().update(auto_approve=True)
    ann, eve = [await User.get(email=f"{name}@example.com") for name in ("ann", "eve")]
    await a_device(None, public_key=EVES, user_owner=ann, key_person_id=eve.id)

    await says_hello(tester, proved_by=EVES)

    assert (await Device.get(device_id=ID)).state == "QUARANTINED"


async def test_who_is_refused_a_second_key_takes_nothing(tester: HouseTester) -> None:
    ann, _, product = await teams(tester)
    await a_device(None, public_key=ANNS, removed_from=product)
    before = await Device.all().values()

    assert await registered(tester, ann, EVES) == ["ALREADY_EXISTS"]

    assert await Device.all().values() == before


async def test_whatever_the_order_no_stranger_keeps_a_key_in_the_product(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    ann, eve, _ = await teams(tester)
    await registered(tester, eve, EVES)
    await says_hello(tester, proved_by=EVES)
    for number in range(10):
        await Device.all().update(state="QUARANTINED", public_key=EVES, key_person_id=(await User.get(email="eve@example.com")).id)
        other = base64.urlsafe_b64encode(bytes([number + 3]) * 32).rstrip(b"=").decode()

        answers = await asyncio.gather(
            approved(tester, ann), registered(tester, eve, other, rotate=True), says_hello(tester, proved_by=EVES)
        )

        assert answers[0] == []
        assert answers[1] in ([], ["NOT_FOUND"])
        row = await Device.get(device_id=ID)
        assert (row.state, row.public_key) == ("ACTIVE", None)


async def test_a_session_that_was_let_in_by_a_fallen_key_is_closed(tester: HouseTester) -> None:
    ann, eve, _ = await teams(tester)
    private = Ed25519PrivateKey.generate()
    await registered(tester, eve, public_half(private))
    async with serving(tester) as served:
        one = await served.connected(Flash(ID, 1094, 3, key=to_base64url(private.private_bytes_raw())), provisioning_key=None)
        assert one.welcome is not None
        assert one.welcome.state == "QUARANTINED"

        await approved(tester, ann)
        await until(lambda: one.closed_with)

        assert one.closed_with == [4401]
