"""Claim codes: made while setting up, shown by the device at its hello, good once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.devices import connecting
from fleet.devices.connecting import Connected, Report
from models.account import User
from models.customer import ClaimCode, Customer
from models.device import Device
from models.log import LogEntry
from models.operations import AuditEntry
from models.product import Product
from simulator.flash import Flash
from tests.connected import PROVISIONING_KEY, serving, until
from tests.customers import IDS, LAMP, a_device, activation_of, answer, codes, imported, lamp, owner_of, sign_up
from tests.firmware_house import Sent, binary
from tests.house import PASSWORD, HouseTester
from tests.stored import everything, whatever_a_refusal_must_leave_alone

CODE = "claimCode expiresAt"


async def claim_code(tester: HouseTester, token: str, **more: Any) -> str:
    payload = await tester.do("createClaimCode", CODE, token, productId=LAMP, **more)
    assert codes(payload) == []
    return str(payload["claimCode"])


async def hello(tester: HouseTester, code: str | None, device_id: str = IDS[0]) -> int | None:
    """What a device with this code becomes: its owner's id."""
    report = Report(device_id, product_id=LAMP, firmware_version=1, platform="PHOTON", address="192.0.2.7", claim_code=code)
    (found,) = await connecting.hello([report], house=tester.house, now=datetime.now(UTC))
    assert isinstance(found, Connected)
    return found.standing.owner_id


async def changes() -> list[tuple[str, str | None]]:
    """Of owners, as the log tells it."""
    told = await LogEntry.filter(kind="status", name__in=["CLAIMED", "UNCLAIMED"]).order_by("position")
    return [(entry.name, entry.device_id) for entry in told]


async def test_a_device_that_shows_the_code_at_its_first_hello_is_the_customers(tester: HouseTester) -> None:
    await lamp(tester)
    await a_device()
    kim = await sign_up(tester, "kim")

    payload = await tester.do("createClaimCode", CODE, kim, productId=LAMP)
    first = await hello(tester, payload["claimCode"])

    lasts = datetime.fromisoformat(payload["expiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < lasts <= timedelta(hours=24)
    assert first == (await Customer.get()).id
    assert await owner_of() == "kim"
    assert await changes() == [("CLAIMED", IDS[0])]
    entry = await AuditEntry.get(action="device.claimed")
    assert (entry.actor, entry.address, entry.detail) == ("customer:kim", "192.0.2.7", {"customer": "kim"})
    assert payload["claimCode"] not in str(await everything())


async def test_a_code_is_spent_by_one_device_and_shown_again_in_vain(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await a_device(IDS[0])
    await a_device(IDS[1])
    code = await claim_code(tester, await sign_up(tester, "kim"))

    await hello(tester, code)
    other = await hello(tester, code, IDS[1])
    await tester.do("unclaimDevice", "clientMutationId", owner, deviceId=IDS[0])
    again = await hello(tester, code)

    assert (other, again) == (None, None)
    assert await changes() == [("CLAIMED", IDS[0]), ("UNCLAIMED", IDS[0])]


@pytest.mark.parametrize("code", ["expired", "nonsense", "another product's", "a token"])
async def test_a_code_that_is_no_good_claims_nothing_and_the_device_connects_as_ever(tester: HouseTester, code: str) -> None:
    owner = await lamp(tester)
    await a_device()
    kim = await sign_up(tester, "kim")
    shown = await claim_code(tester, kim)
    if code == "expired":
        await ClaimCode.all().update(expires_at=datetime.now(UTC))
    if code == "another product's":
        await answer(tester, owner, await tester.product(owner), "SIMPLE")
        ann = await sign_up(tester, "ann", 1001)
        shown = (await tester.do("createClaimCode", CODE, ann, productId=1001))["claimCode"]

    owned = await hello(tester, {"nonsense": "flm_nonsense", "a token": kim}.get(code, shown))

    assert owned is None
    assert await changes() == []
    assert await ClaimCode.filter(spent_at=None).count() == await ClaimCode.all().count()


@pytest.mark.parametrize("columns", [{"state": "DENIED"}, {"user_owner": "user"}, {"owner": "customer"}])
async def test_a_device_that_may_not_be_claimed_keeps_the_code_unspent(tester: HouseTester, columns: dict[str, str]) -> None:
    await lamp(tester)
    kim = await sign_up(tester, "kim")
    await sign_up(tester, "ann")
    rows = {"user": await User.first(), "customer": await Customer.get(username="ann")}
    await a_device(**{name: rows.get(value, value) for name, value in columns.items()})
    before = await Device.get()
    code = await claim_code(tester, kim)

    report = Report(IDS[0], product_id=LAMP, firmware_version=1, claim_code=code)
    await connecting.hello([report], house=tester.house, now=datetime.now(UTC))

    assert await Device.filter(owner_id=before.owner_id, user_owner_id=before.user_owner_id).count() == 1
    assert await changes() == []
    assert await ClaimCode.filter(spent_at=None).count() == 1


async def test_of_two_devices_with_one_code_at_once_one_is_claimed(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    await lamp(tester)
    kim = await sign_up(tester, "kim")
    for round in range(10):
        pair = IDS[2 * round : 2 * round + 2]
        for device_id in pair:
            await a_device(device_id)
        code = await claim_code(tester, kim)

        owners = await asyncio.gather(*(hello(tester, code, device_id) for device_id in pair))

        assert sorted(owner is None for owner in owners) == [False, True]
        assert await Device.filter(device_id__in=pair, owner_id=None).count() == 1
    assert len(await changes()) == 10


async def test_a_hello_with_a_code_an_assignment_and_the_end_of_the_customer_at_once_come_out_whole(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await lamp(tester)
    for round in range(8):
        await a_device(IDS[round])
        kim = await sign_up(tester, f"kim-{round}")
        customer = (await tester.ask("{ viewer { customer { id } } }", kim))["viewer"]["customer"]["id"]
        code = await claim_code(tester, kim)

        _, assigned, deleted = await asyncio.gather(
            hello(tester, code, IDS[round]),
            tester.do("assignDevice", "clientMutationId", owner, deviceId=IDS[round], customerId=customer),
            tester.do("deleteCustomer", "clientMutationId", owner, id=customer),
        )

        assert codes(assigned) in ([], ["NOT_FOUND"], ["DEVICE_ALREADY_CLAIMED"])
        assert codes(deleted) == []
        assert await owner_of(IDS[round]) is None
    assert await ClaimCode.all().count() == 0


# ── a private beta ──
async def test_in_a_private_beta_a_code_takes_the_activation_code_which_the_claim_spends(tester: HouseTester) -> None:
    owner = await lamp(tester, beta=True)
    (activation,) = await imported(tester, owner, "kim")
    await a_device(IDS[0])
    await a_device(IDS[1])
    kim = await sign_up(tester, "kim")

    without = await tester.do("createClaimCode", CODE, kim, productId=LAMP)
    wrong = await tester.do("createClaimCode", CODE, kim, productId=LAMP, activationCode="!!!!")
    first, second = [await claim_code(tester, kim, activationCode=activation) for _ in range(2)]
    unused = await activation_of("kim")
    owners = [await hello(tester, first, IDS[0]), await hello(tester, second, IDS[1])]
    after = await tester.do("createClaimCode", CODE, kim, productId=LAMP, activationCode=activation)

    assert (codes(without), codes(wrong)) == (["ACTIVATION_CODE_REQUIRED"], ["ACTIVATION_CODE_WRONG"])
    assert (unused, await activation_of("kim")) == ("UNUSED", "USED")
    assert owners == [(await Customer.get()).id, None]
    assert codes(after) == ["ACTIVATION_CODE_USED"]


# ── who makes them ──
async def test_the_team_makes_a_code_for_a_customer_and_a_customer_for_nobody_else(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await a_device()
    await tester.do("createCustomer", "clientMutationId", owner, productId=LAMP, username="zoe", externalId="crm-1")
    kim = await sign_up(tester, "kim")
    await answer(tester, owner, await tester.product(owner), "SIMPLE")
    before = await whatever_a_refusal_must_leave_alone()

    refused = [
        await tester.do("createClaimCode", CODE, kim, productId=LAMP, externalId="crm-1"),
        await tester.do("createClaimCode", CODE, kim, productId=1001),
        await tester.do("createClaimCode", CODE, owner, productId=LAMP, externalId="crm-2"),
        await tester.do("createClaimCode", CODE, owner, productId=1001, externalId="crm-1"),
    ]
    unchanged = await whatever_a_refusal_must_leave_alone() == before
    code = await claim_code(tester, owner, externalId="crm-1")
    await hello(tester, code)

    assert [codes(each) for each in refused] == [["NOT_FOUND"]] * 4
    assert unchanged
    assert await owner_of() == "zoe"


async def test_a_deleted_customer_leaves_neither_token_nor_code(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await a_device()
    kim = await sign_up(tester, "kim")
    code = await claim_code(tester, kim)
    id = (await tester.ask("{ viewer { customer { id } } }", kim))["viewer"]["customer"]["id"]

    await tester.do("deleteCustomer", "clientMutationId", owner, id=id)

    assert await hello(tester, code) is None
    with pytest.raises(Exception, match="not good any more"):
        await tester.ask("{ viewer { kind } }", kim)
    payload = await tester.do("logInCustomer", "token", productId=LAMP, username="kim", password=PASSWORD)
    assert codes(payload) == ["WRONG_CREDENTIALS"]


# ── by a real device ──
async def test_a_claimed_factory_device_gets_the_version_released_when_it_first_connects(tester: HouseTester) -> None:
    """Not the one of its import. Source: guide, "Claiming" and "Releasing firmware"."""
    owner = await lamp(tester)
    kim = await sign_up(tester, "kim")
    product = await Product.get()
    product.provisioning_key = tester.house.sealer.seal(PROVISIONING_KEY, context=f"product/{LAMP}/provisioning")
    await product.save(update_fields=["provisioning_key"])
    for version in (1, 2):
        given = {"productId": LAMP, "version": version, "title": f"Version {version}", "binary": Sent(binary(LAMP, version))}
        assert codes(await tester.do("uploadFirmware", "clientMutationId", owner, **given)) == []
        await a_device(IDS[version], firmware_version=version, proven=True, reported_product_id=LAMP, platform="PHOTON")
    await tester.do("releaseFirmware", "clientMutationId", owner, productId=LAMP, version=1)
    await tester.do("importDevices", "clientMutationId", owner, productId=LAMP, deviceIds=[IDS[0]])
    code = await claim_code(tester, kim)
    released = await tester.do("releaseFirmware", "clientMutationId", owner, productId=LAMP, version=2)

    async with serving(tester) as served:
        device = await served.connected(Flash(IDS[0], LAMP, 0), claim_code=code)
        offered = await until(lambda: _offered(tester, owner))
        await served.stop(device)

    assert codes(released) == []
    assert await owner_of() == "kim"
    assert offered == {"firmware": {"version": 2}}


async def _offered(tester: HouseTester, owner: str) -> Any:
    return (await tester.ask(f'{{ device(deviceId: "{IDS[0]}") {{ update {{ firmware {{ version }} }} }} }}', owner))["device"]["update"]
