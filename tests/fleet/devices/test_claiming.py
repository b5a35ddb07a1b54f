"""Whose a device is: by the team's word, and by a customer's claim."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from auth.credentials import issue
from auth.tokens import Kind
from models.account import Token, User
from models.customer import Customer
from models.device import Device
from models.log import LogEntry
from models.operations import AuditEntry
from models.product import AuthMethod, Product
from tests.customers import IDS, a_device, codes, lamp, sign_up
from tests.house import HouseTester
from tests.stored import whatever_a_refusal_must_leave_alone

ID = "55ff6d04498b49aabbccdd01"
DEVICE = "device { deviceId }"


async def device(number: int, **columns: Any) -> Device:
    return await Device.create(device_id=ID, product=await Product.get(number=number), created_at=datetime.now(UTC), **columns)


async def customer(tester: HouseTester, token: str, username: str, number: int = 1000) -> str:
    payload = await tester.do("createCustomer", "customer { id }", token, productId=number, username=username)
    return str(payload["customer"]["id"])


async def owner_of(device_id: str = ID) -> str | None:
    row = await Device.get(device_id=device_id).select_related("owner")
    return row.owner.username if row.owner else None


async def news() -> list[tuple[str, str, str | None, int]]:
    return [(entry.kind, entry.name, entry.device_id, entry.product_number) for entry in await LogEntry.all().order_by("position")]


async def test_a_device_that_never_connected_is_assigned_returned_and_assigned_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    await device(await tester.product(owner))
    zoe, ann = await customer(tester, owner, "zoe"), await customer(tester, owner, "ann")

    first = await tester.do("assignDevice", DEVICE, owner, deviceId=ID.upper(), customerId=zoe)
    held = (await owner_of(), (await Device.get()).claimed_at is not None)
    returned = await tester.do("unclaimDevice", DEVICE, owner, deviceId=ID)
    free = (await owner_of(), (await Device.get()).claimed_at is not None)
    second = await tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=ann)

    assert [payload["errors"] for payload in (first, returned, second)] == [[], [], []]
    assert first["device"] == {"deviceId": ID}
    assert (held, free, await owner_of()) == (("zoe", True), (None, False), "ann")
    assert await news() == [("status", name, ID, 1000) for name in ("CLAIMED", "UNCLAIMED", "CLAIMED")]
    recorded = [
        (entry.action, entry.subject, entry.detail) for entry in await AuditEntry.filter(action__startswith="device.").order_by("id")
    ]
    assert recorded == [
        ("device.assigned", f"device:{ID}", {"customer": "zoe"}),
        ("device.unclaimed", f"device:{ID}", {"owner": "customer:zoe"}),
        ("device.assigned", f"device:{ID}", {"customer": "ann"}),
    ]


async def test_a_customers_devices_are_listed(tester: HouseTester) -> None:
    owner = await tester.owner()
    await device(await tester.product(owner))
    zoe, _ = await customer(tester, owner, "zoe"), await customer(tester, owner, "ann")
    asked = "{ product(productId: 1000) { customers { nodes { username devices { nodes { deviceId } totalCount } } } } }"

    before = (await tester.ask(asked, owner))["product"]["customers"]["nodes"]
    await tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=zoe)
    after = (await tester.ask(asked, owner))["product"]["customers"]["nodes"]

    none = {"nodes": [], "totalCount": 0}
    assert before == [{"username": "zoe", "devices": none}, {"username": "ann", "devices": none}]
    assert after == [{"username": "zoe", "devices": {"nodes": [{"deviceId": ID}], "totalCount": 1}}, {"username": "ann", "devices": none}]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"owner": "customer"}, "DEVICE_ALREADY_CLAIMED"),
        ({"user_owner": "user"}, "DEVICE_ALREADY_CLAIMED"),
        ({"state": "QUARANTINED"}, "DEVICE_NOT_CLAIMABLE"),
        ({"state": "DENIED"}, "DEVICE_NOT_CLAIMABLE"),
    ],
)
async def test_only_an_active_device_that_nobody_owns_is_assigned(tester: HouseTester, columns: dict[str, Any], code: str) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    zoe, _ = await customer(tester, owner, "zoe"), await customer(tester, owner, "ann")
    rows = {"customer": await Customer.get(username="ann"), "user": await User.get()}
    found = await device(number, **{name: rows.get(value, value) for name, value in columns.items()})
    before, state = await tester.audited(), dict(await Device.filter(device_id=ID).first().values())

    payload = await tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=zoe)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, ["input", "deviceId"])]
    assert payload["device"] is None
    assert dict(await Device.filter(device_id=found.device_id).first().values()) == state
    assert await news() == []
    assert await tester.audited() == before


async def test_a_customer_of_another_product_is_not_found(tester: HouseTester) -> None:
    owner = await tester.owner()
    number, other = await tester.product(owner), await tester.product(owner)
    await device(number)
    zoe = await customer(tester, owner, "zoe", other)
    before = await tester.audited()

    payload = await tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=zoe)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("NOT_FOUND", ["input", "customerId"])]
    assert await owner_of() is None
    assert await tester.audited() == before


async def test_a_device_that_nobody_owns_cannot_be_unclaimed(tester: HouseTester) -> None:
    owner = await tester.owner()
    await device(await tester.product(owner))
    before = await tester.audited()

    payload = await tester.do("unclaimDevice", DEVICE, owner, deviceId=ID)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "deviceId"])]
    assert await news() == []
    assert await tester.audited() == before


async def test_a_members_kit_in_the_product_is_unclaimed_too(tester: HouseTester) -> None:
    owner = await tester.owner()
    await device(await tester.product(owner), user_owner=await User.get())

    payload = await tester.do("unclaimDevice", DEVICE, owner, deviceId=ID)

    assert payload["errors"] == []
    assert await Device.filter(device_id=ID, user_owner_id=None, product__number=1000).exists()
    assert (await AuditEntry.filter(action="device.unclaimed").get()).detail == {"owner": "user:ann@example.com"}


async def test_of_two_assignments_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    await device(await tester.product(owner))
    ids = [await customer(tester, owner, name) for name in ("zoe", "ann", "bob")]
    for _ in range(5):
        answers = await asyncio.gather(*(tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=each) for each in ids))
        returned = await asyncio.gather(*(tester.do("unclaimDevice", DEVICE, owner, deviceId=ID) for _ in range(2)))

        assert [error["code"] for answer in answers for error in answer["errors"]] == ["DEVICE_ALREADY_CLAIMED"] * 2
        assert [error["code"] for answer in returned for error in answer["errors"]] == ["INVALID_INPUT"]
    assert [name for _, name, _, _ in await news()] == ["CLAIMED", "UNCLAIMED"] * 5


async def test_a_device_assigned_while_its_customer_is_deleted_ends_up_unowned(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    await device(await tester.product(owner))
    for attempt in range(10):
        zoe = await customer(tester, owner, f"zoe-{attempt}")

        assigned, deleted = await asyncio.gather(
            tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=zoe),
            tester.do("deleteCustomer", "clientMutationId", owner, id=zoe),
        )

        assert deleted["errors"] == []
        assert [error["code"] for error in assigned["errors"]] in ([], ["NOT_FOUND"])
        assert await owner_of() is None


async def test_below_developer_and_outside_the_team_nobody_says_whose_a_device_is(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    await device(await tester.product(owner))
    bob = await tester.member(owner, "bob", "SUPPORT")
    zoe = await customer(tester, owner, "zoe")
    await tester.do("assignDevice", DEVICE, owner, deviceId=ID, customerId=zoe)
    before, told = await tester.audited(), await news()

    refused = [
        payload
        for token in (bob, eve)
        for payload in (
            await tester.do("assignDevice", DEVICE, token, deviceId=ID, customerId=zoe),
            await tester.do("unclaimDevice", DEVICE, token, deviceId=ID),
        )
    ]

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["FORBIDDEN"] * 2 + ["NOT_FOUND"] * 2
    assert await owner_of() == "zoe"
    assert await news() == told
    assert await tester.audited() == before


# ── by the customer ──
async def test_a_customer_claims_a_device_of_the_product_that_nobody_owns(tester: HouseTester) -> None:
    await lamp(tester)
    await a_device(IDS[0])
    kim = await sign_up(tester, "kim")

    payload = await tester.do("claimDevice", "device { deviceId owner { username } claimedAt }", kim, deviceId=IDS[0].upper())

    assert codes(payload) == []
    assert payload["device"] | {"claimedAt": ""} == {"deviceId": IDS[0], "owner": {"username": "kim"}, "claimedAt": ""}
    seen = await tester.ask("{ viewer { devices { nodes { deviceId } } customer { devices { nodes { deviceId } } } } }", kim)
    one = {"nodes": [{"deviceId": IDS[0]}]}
    assert seen["viewer"] == {"devices": one, "customer": {"devices": one}}
    assert await news() == [("status", "CLAIMED", IDS[0], 1000)]
    entry = await AuditEntry.get(action="device.claimed")
    assert (entry.actor, entry.subject, entry.detail) == ("customer:kim", f"device:{IDS[0]}", {"customer": "kim"})


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"owner": "customer"}, "DEVICE_ALREADY_CLAIMED"),
        ({"user_owner": "user"}, "DEVICE_ALREADY_CLAIMED"),
        ({"state": "QUARANTINED"}, "DEVICE_NOT_CLAIMABLE"),
        ({"product": "other"}, "NOT_FOUND"),
        ({"product": None}, "NOT_FOUND"),
    ],
)
async def test_no_other_device_is_claimed(tester: HouseTester, columns: dict[str, Any], code: str) -> None:
    owner = await lamp(tester)
    other = await Product.get(number=await tester.product(owner))
    kim, _ = await sign_up(tester, "kim"), await sign_up(tester, "ann")
    made = {"customer": await Customer.get(username="ann"), "user": await User.get(), "other": other}
    lamps = {"product": await Product.get(number=1000)}
    await Device.create(
        device_id=IDS[0], created_at=datetime.now(UTC), **lamps | {name: made.get(str(value), value) for name, value in columns.items()}
    )
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("claimDevice", DEVICE, kim, deviceId=IDS[0])

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, ["input", "deviceId"])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_of_fifty_claims_of_one_device_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await lamp(tester)
    await a_device(IDS[0])
    now, product = datetime.now(UTC), await Product.get()
    tokens = []
    for number in range(50):
        row = await Customer.create(product=product, username=f"kim-{number}", username_key=f"kim-{number}", created_at=now)
        tokens.append((await issue(Kind.CUSTOMER, owner=row, now=now, auth_method=AuthMethod.SIMPLE))[0].text)
    for _ in range(3):
        answers = await asyncio.gather(*(tester.do("claimDevice", DEVICE, token, deviceId=IDS[0]) for token in tokens))
        returned = await tester.do("unclaimDevice", DEVICE, owner, deviceId=IDS[0])

        assert sorted(codes(each) for each in answers) == [[]] + [["DEVICE_ALREADY_CLAIMED"]] * 49
        assert codes(returned) == []
    assert [name for _, name, _, _ in await news()] == ["CLAIMED", "UNCLAIMED"] * 3


async def test_device_ids_cannot_be_tried_at_full_speed(slowing_tester: HouseTester) -> None:
    await lamp(slowing_tester)
    kim = await sign_up(slowing_tester, "kim")

    tried = [codes(await slowing_tester.do("claimDevice", DEVICE, kim, deviceId=each)) for each in IDS[:11]]

    assert tried == [["NOT_FOUND"]] * 10 + [["RATE_LIMITED"]]


async def test_a_token_without_the_scope_claims_nothing(tester: HouseTester) -> None:
    await lamp(tester)
    await a_device(IDS[0])
    kim = await sign_up(tester, "kim")
    await Token.filter(customer__username="kim").update(scopes=["devices:read"])
    before = await whatever_a_refusal_must_leave_alone()

    refused = [
        await tester.do("claimDevice", DEVICE, kim, deviceId=IDS[0]),
        await tester.do("createClaimCode", "claimCode", kim, productId=1000),
    ]

    assert [(error["code"], error["reason"]) for each in refused for error in each["errors"]] == [("FORBIDDEN", "devices:claim")] * 2
    assert await whatever_a_refusal_must_leave_alone() == before


# ── by the makers who keep the accounts ──
async def test_one_credential_claims_for_all_customers_of_a_self_managed_product_by_their_own_keys(tester: HouseTester) -> None:
    owner = await lamp(tester, "SELF_MANAGED")
    scopes = ["customers:write", "customers:read", "devices:read", "devices:call"]
    machine = (await tester.do("createApiUser", "token", owner, organization="acme", name="cloud", scopes=scopes))["token"]
    for device_id, key in zip(IDS[:2], ("crm-1", "crm-2"), strict=True):
        await a_device(device_id)
        await tester.do("createCustomer", "clientMutationId", machine, productId=1000, username=f"of {key}", externalId=key)

    claimed = await tester.do("claimDevice", "device { owner { externalId } }", machine, deviceId=IDS[0], externalId="crm-1")
    assigned = await tester.do("assignDevice", "device { owner { externalId } }", machine, deviceId=IDS[1], externalId="crm-2")

    assert (codes(claimed), codes(assigned)) == ([], [])
    assert [each["device"]["owner"]["externalId"] for each in (claimed, assigned)] == ["crm-1", "crm-2"]
    found = 'query { product(productId: 1000) { customers(filter: {externalId: "crm-2"}) { nodes { devices { nodes { deviceId } } } } } }'
    whole = await tester.do("updateApiUser", "token", owner, id=await _machine_id(tester, owner), scopes=[*scopes, "products:read"])
    (node,) = (await tester.ask(found, whole["token"]))["product"]["customers"]["nodes"]
    assert node == {"devices": {"nodes": [{"deviceId": IDS[1]}]}}


async def _machine_id(tester: HouseTester, owner: str) -> str:
    found = await tester.ask('{ organization(slug: "acme") { apiUsers { id } } }', owner)
    return str(found["organization"]["apiUsers"][0]["id"])


@pytest.mark.parametrize("method", ["SIMPLE", "TWO_LEGGED", "OAUTH"])
async def test_elsewhere_nobody_claims_for_a_customer(tester: HouseTester, method: str) -> None:
    owner = await lamp(tester, method)
    await a_device(IDS[0])
    zoe = await customer(tester, owner, "zoe")
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("claimDevice", DEVICE, owner, deviceId=IDS[0], customerId=zoe)

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("WRONG_AUTH_METHOD", method)]
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize("named", [{}, {"customerId": "Q3VzdG9tZXI6MQ", "externalId": "crm-1"}])
async def test_the_team_names_exactly_one_customer(tester: HouseTester, named: dict[str, str]) -> None:
    owner = await lamp(tester, "SELF_MANAGED")
    await a_device(IDS[0])

    payload = await tester.do("claimDevice", DEVICE, owner, deviceId=IDS[0], **named)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "customerId"])]
    assert await owner_of(IDS[0]) is None
