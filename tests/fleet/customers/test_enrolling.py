"""Customers as the team makes, lists and ends them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auth.passwords import verify_password
from models.account import Token
from models.customer import Customer
from models.device import Device
from models.log import LogEntry, UsageTally
from models.operations import AuditEntry
from models.product import Product
from tests.house import HouseTester

CUSTOMER = "customer { id username externalId activation lastActiveAt product { productId } devices { totalCount } }"
IDS = [f"{n:024x}" for n in range(1, 10)]


async def customer(tester: HouseTester, token: str, username: str, number: int = 1000, **details: Any) -> Any:
    payload = await tester.do("createCustomer", CUSTOMER, token, productId=number, username=username, **details)
    assert payload["errors"] == []
    return payload["customer"]


async def test_a_customer_is_made_and_found_again(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)

    made = await customer(tester, owner, " Zoë@Example.com ", externalId="crm-7")

    node = await tester.ask(
        f"query ($id: ID!) {{ node(id: $id) {{ ... on Customer {CUSTOMER.removeprefix('customer')} }} }}", owner, id=made["id"]
    )
    assert node["node"] == made
    assert made | {"id": ""} == {
        "id": "",
        "username": "Zoë@Example.com",
        "externalId": "crm-7",
        "activation": None,
        "lastActiveAt": None,
        "product": {"productId": 1000},
        "devices": {"totalCount": 0},
    }
    entry = await AuditEntry.filter(action="customer.created").get()
    assert (entry.subject, entry.detail) == ("customer:1000/Zoë@Example.com", {"external_id": "crm-7"})


@pytest.mark.parametrize(
    ("second", "field"),
    [({"username": "ZOE"}, "username"), ({"username": "\uff5aoe"}, "username"), ({"username": "ann", "externalId": "crm-7"}, "externalId")],
)
async def test_a_name_in_any_spelling_and_an_external_id_are_taken_once(tester: HouseTester, second: dict[str, str], field: str) -> None:
    owner = await tester.owner()
    number, other = await tester.product(owner), await tester.product(owner)
    await customer(tester, owner, "zoe", externalId="crm-7")
    before = await tester.audited()

    payload = await tester.do("createCustomer", CUSTOMER, owner, productId=number, **second)
    elsewhere = await tester.do("createCustomer", CUSTOMER, owner, productId=other, **second)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("ALREADY_EXISTS", ["input", field])]
    assert elsewhere["errors"] == []
    assert await Customer.filter(product__number=number).count() == 1
    assert await tester.audited() == [*before, "customer.created"]


@pytest.mark.parametrize("username", ["", "  ", "x" * 255, "\ufdfa" * 20, "a\x00b"])
async def test_what_is_no_user_name_is_refused(tester: HouseTester, username: str) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)

    payload = await tester.do("createCustomer", CUSTOMER, owner, productId=number, username=username)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", "username"])]
    assert await Customer.all().count() == 0


async def test_a_password_is_kept_as_a_hash_and_must_be_strong(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)

    weak = await tester.do("createCustomer", CUSTOMER, owner, productId=number, username="zoe", password="zoe-zoe-zoe-zoe-zoe")
    await customer(tester, owner, "zoe", password="seven unrelated words make it")

    assert [(error["code"], error["path"]) for error in weak["errors"]] == [("PASSWORD_TOO_WEAK", ["input", "password"])]
    stored = await Customer.get()
    assert await verify_password("seven unrelated words make it", stored.password_hash)
    assert "unrelated" not in str((await AuditEntry.filter(action="customer.created").get()).detail)


async def test_of_two_equal_customers_made_at_once_one_wins(postgres_tester: HouseTester) -> None:
    tester = postgres_tester
    owner = await tester.owner()
    number = await tester.product(owner)

    answers = await asyncio.gather(*(tester.do("createCustomer", CUSTOMER, owner, productId=number, username="zoe") for _ in range(5)))

    assert [error["code"] for answer in answers for error in answer["errors"]] == ["ALREADY_EXISTS"] * 4
    assert await Customer.all().count() == 1


async def test_customers_are_listed_in_pages_and_searched_literally(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    for username, external_id in (("ann_1", None), ("annx1", "50%"), ("Bob", "a_c"), ("ÉVE", "507"), ("zoe", None)):
        await customer(tester, owner, username, externalId=external_id)
    bob = await Customer.get(username="Bob")
    await Device.create(device_id=IDS[0], product=await Product.get(), owner=bob, created_at=datetime.now(UTC))

    async def names(arguments: str) -> list[str]:
        found = await tester.ask(f"{{ product(productId: {number}) {{ customers{arguments} {{ nodes {{ username }} }} }} }}", owner)
        return [each["username"] for each in found["product"]["customers"]["nodes"]]

    assert await names("") == ["ann_1", "annx1", "Bob", "ÉVE", "zoe"]
    assert await names('(filter: {search: "ANN_1"})') == ["ann_1"]
    assert await names('(filter: {search: "_"})') == ["ann_1", "Bob"]
    assert await names('(filter: {search: "0%"})') == ["annx1"]
    assert await names('(filter: {search: "éve"})') == ["ÉVE"]
    assert await names('(filter: {search: "\\\\"})') == []
    assert await names("(filter: {hasDevice: true})") == ["Bob"]
    assert await names("(filter: {hasDevice: false})") == ["ann_1", "annx1", "ÉVE", "zoe"]
    assert await names('(filter: {hasDevice: false, search: "z"})') == ["zoe"]
    first = await tester.ask(
        "{ product(productId: 1000) { customers(first: 2) { totalCount pageInfo { hasNextPage endCursor } } } }", owner
    )
    page = first["product"]["customers"]
    assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (5, True)
    assert await names(f'(first: 2, after: "{page["pageInfo"]["endCursor"]}")') == ["Bob", "ÉVE"]


async def test_last_activity_is_the_newest_day_of_usage(tester: HouseTester) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    await customer(tester, owner, "zoe")
    zoe, now = await Customer.get(), datetime(2026, 5, 4, 3, 2, 1, 500_000, tzinfo=UTC)
    for days in (0, 3):
        at = now - timedelta(days=days)
        await UsageTally.create(product_number=number, day=at.date(), customer=zoe, events=1, last_at=at)

    found = await tester.ask("{ product(productId: 1000) { customers { nodes { lastActiveAt } } } }", owner)

    assert found["product"]["customers"]["nodes"] == [{"lastActiveAt": "2026-05-04T03:02:01.500Z"}]


async def test_a_deleted_customer_leaves_devices_that_nobody_owns(tester: HouseTester) -> None:
    owner = await tester.owner()
    await tester.product(owner)
    zoe, _ = await customer(tester, owner, "zoe"), await customer(tester, owner, "ann")
    row, ann, product, now = await Customer.get(username="zoe"), await Customer.get(username="ann"), await Product.get(), datetime.now(UTC)
    for device_id, whose in ((IDS[0], row), (IDS[1], row), (IDS[2], ann)):
        await Device.create(device_id=device_id, product=product, owner=whose, claimed_at=now, created_at=now)
    await Token.create(digest="0" * 64, prefix="flc_0000", scopes=[], customer=row, created_at=now)
    await UsageTally.create(product_number=product.number, day=now.date(), customer=row, events=1, last_at=now)

    payload = await tester.do("deleteCustomer", "clientMutationId", owner, id=zoe["id"])
    again = await tester.do("deleteCustomer", "clientMutationId", owner, id=zoe["id"])

    assert payload["errors"] == []
    assert [error["code"] for error in again["errors"]] == ["NOT_FOUND"]
    assert await Device.all().order_by("device_id").values_list("owner_id", flat=True) == [None, None, ann.id]
    assert [device.claimed_at is None for device in await Device.all().order_by("device_id")] == [True, True, False]
    assert await Token.filter(customer_id=row.id).count() == 0
    assert await LogEntry.all().order_by("position").values_list("kind", "name", "device_id", "product_number") == [
        ("status", "UNCLAIMED", IDS[0], 1000),
        ("status", "UNCLAIMED", IDS[1], 1000),
    ]
    assert (await AuditEntry.filter(action="customer.deleted").get()).detail == {"devices": IDS[:2]}


async def test_below_developer_and_outside_the_team_nobody_makes_or_ends_customers(tester: HouseTester) -> None:
    owner, eve = await tester.owner(), await tester.owner("eve", "Other")
    number = await tester.product(owner)
    bob = await tester.member(owner, "bob", "SUPPORT")
    zoe = await customer(tester, owner, "zoe")
    before = await tester.audited()

    refused = [
        payload
        for token in (bob, eve)
        for payload in (
            await tester.do("createCustomer", CUSTOMER, token, productId=number, username="new"),
            await tester.do("deleteCustomer", "clientMutationId", token, id=zoe["id"]),
        )
    ]
    seen = [await tester.ask("query ($id: ID!) { node(id: $id) { id } }", token, id=zoe["id"]) for token in (bob, eve)]

    assert [error["code"] for payload in refused for error in payload["errors"]] == ["FORBIDDEN"] * 2 + ["NOT_FOUND"] * 2
    assert seen == [{"node": {"id": zoe["id"]}}, {"node": None}]
    assert [row.username for row in await Customer.all()] == ["zoe"]
    assert await tester.audited() == before
