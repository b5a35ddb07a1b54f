"""Customers whose accounts are kept here: signing up, logging in, and tokens that end with the method they were made by."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from errors import Unauthenticated, WrongAuthMethod
from models.account import Token
from models.customer import Customer
from models.device import Device
from models.global_ids import global_id
from models.operations import AuditEntry
from models.product import Product
from tests.connected import subscribed
from tests.customers import answer, codes, lamp
from tests.house import PASSWORD, GraphQLFailed, HouseTester
from tests.stored import everything, whatever_a_refusal_must_leave_alone

ID = "55ff6d04498b49aabbccdd01"
SESSION = "token expiresAt customer { username activation product { productId } }"
WHO = "{ viewer { kind scopes customer { id username devices { nodes { deviceId } } } devices { nodes { deviceId } } } }"


async def sign_up(tester: HouseTester, username: str = "kim@example.com", **more: Any) -> Any:
    return await tester.do("signUpCustomer", SESSION, **{"productId": 1000, "username": username, "password": PASSWORD} | more)


async def log_in(tester: HouseTester, username: str = "kim@example.com", password: str = PASSWORD, number: int = 1000) -> Any:
    return await tester.do("logInCustomer", SESSION, productId=number, username=username, password=password)


async def test_a_customer_signs_up_and_logs_in_and_is_the_products(tester: HouseTester) -> None:
    await lamp(tester)

    made = await sign_up(tester, " Kim@Example.com ")
    again = await log_in(tester, "KIM@example.com")

    assert (codes(made), codes(again)) == ([], [])
    assert made["customer"] == again["customer"] == {"username": "Kim@Example.com", "activation": None, "product": {"productId": 1000}}
    lasts = datetime.fromisoformat(again["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < lasts <= timedelta(days=30)
    seen = (await tester.ask(WHO, again["token"]))["viewer"]
    assert seen.pop("customer").pop("username") == "Kim@Example.com"
    assert seen == {"kind": "CUSTOMER", "scopes": [], "devices": {"nodes": []}}
    entries = await AuditEntry.filter(action__startswith="customer.").order_by("id")
    assert [(entry.actor, entry.action, entry.subject) for entry in entries] == [
        ("customer:Kim@Example.com", "customer.signed_up", "customer:1000/Kim@Example.com"),
        ("customer:Kim@Example.com", "customer.logged_in", "customer:1000/Kim@Example.com"),
    ]
    assert {entry.organization_id for entry in entries} == {(await Product.get()).organization_id}


@pytest.mark.parametrize("method", ["TWO_LEGGED", "SELF_MANAGED", "OAUTH", None])
async def test_where_accounts_are_not_kept_here_nobody_signs_up_or_logs_in(tester: HouseTester, method: str | None) -> None:
    owner = await tester.owner()
    number = await tester.product(owner)
    if method is not None:
        await answer(tester, owner, number, method)
    await tester.do("createCustomer", "clientMutationId", owner, productId=number, username="zoe", password=PASSWORD)
    before = await whatever_a_refusal_must_leave_alone()

    refused = [await sign_up(tester), await log_in(tester, "zoe")]

    assert [codes(each) for each in refused] == [["WRONG_AUTH_METHOD"]] * 2
    assert [each["token"] for each in refused] == [None, None]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_a_token_ends_with_the_method_it_was_made_by_and_comes_back_with_it(tester: HouseTester) -> None:
    owner = await lamp(tester)
    token = (await sign_up(tester))["token"]

    await answer(tester, owner, 1000, "OAUTH")
    with pytest.raises(WrongAuthMethod):
        await tester.ask(WHO, token)
    await answer(tester, owner, 1000, "SIMPLE")

    assert (await tester.ask(WHO, token))["viewer"]["kind"] == "CUSTOMER"


async def test_a_running_stream_ends_when_the_product_signs_in_by_another_method(tester: HouseTester) -> None:
    owner = await lamp(tester)
    token = (await sign_up(tester))["token"]
    await Device.create(device_id=ID, product=await Product.get(), owner=await Customer.get(), created_at=datetime.now(UTC))

    async with subscribed(tester, f'subscription {{ deviceStatus(deviceId: "{ID}") {{ change }} }}', token) as stream:
        assert (await stream.next())["change"] == "SNAPSHOT"
        await answer(tester, owner, 1000, "TWO_LEGGED")
        with pytest.raises(GraphQLFailed) as ended:
            await stream.next()

    assert ended.value.codes == ["WRONG_AUTH_METHOD"]


async def test_a_customer_finds_themselves_by_id_and_nobody_else_of_the_product(tester: HouseTester) -> None:
    await lamp(tester)
    kim, _ = (await sign_up(tester))["token"], await sign_up(tester, "ann")
    ids = [global_id("Customer", row.id) for row in await Customer.all().order_by("id")]

    found = await tester.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Customer { username } } }", kim, ids=ids)

    assert found["nodes"] == [{"username": "kim@example.com"}, None]


async def test_logging_out_ends_the_token_that_asks_and_no_other(tester: HouseTester) -> None:
    await lamp(tester)
    first, second = (await sign_up(tester))["token"], (await log_in(tester))["token"]

    payload = await tester.do("logOut", "clientMutationId", first)

    assert codes(payload) == []
    with pytest.raises(Unauthenticated):
        await tester.ask(WHO, first)
    assert (await tester.ask(WHO, second))["viewer"]["kind"] == "CUSTOMER"
    assert (await tester.audited())[-1] == "customer.logged_out"


async def test_an_account_is_of_one_product(tester: HouseTester) -> None:
    owner = await lamp(tester)
    await answer(tester, owner, await tester.product(owner), "SIMPLE")
    await sign_up(tester)

    elsewhere = await log_in(tester, number=1001)
    other = await sign_up(tester, productId=1001)

    assert (codes(elsewhere), codes(other)) == (["WRONG_CREDENTIALS"], [])
    assert await Customer.all().order_by("id").values_list("product__number", flat=True) == [1000, 1001]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("productId", 1999, "NOT_FOUND"),
        ("username", "  ", "INVALID_INPUT"),
        ("username", "x" * 255, "INVALID_INPUT"),
        ("email", "kim", "INVALID_INPUT"),
        ("password", "fourteen chars", "PASSWORD_TOO_WEAK"),
        ("password", "kim@example.com kim@example.com", "PASSWORD_TOO_WEAK"),
    ],
)
async def test_what_cannot_be_an_account_is_refused_by_the_field(tester: HouseTester, field: str, value: Any, code: str) -> None:
    await lamp(tester)
    before = await whatever_a_refusal_must_leave_alone()

    payload = await sign_up(tester, **{field: value})

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [(code, ["input", field])]
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize(("username", "password"), [("kim@example.com", "not the password at all"), ("eve", PASSWORD), ("made", PASSWORD)])
async def test_a_wrong_password_an_unknown_name_and_an_account_without_a_password_are_answered_alike(
    tester: HouseTester, username: str, password: str
) -> None:
    owner = await lamp(tester)
    await sign_up(tester)
    await tester.do("createCustomer", "clientMutationId", owner, productId=1000, username="made")
    before = await whatever_a_refusal_must_leave_alone()

    payload = await log_in(tester, username, password)

    assert payload == {
        "token": None,
        "expiresAt": None,
        "customer": None,
        "errors": [{"code": "WRONG_CREDENTIALS", "message": "The user name or the password is wrong.", "path": None, "reason": None}],
    }
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_an_account_made_by_the_team_is_completed_by_signing_up_unless_devices_wait_in_it(tester: HouseTester) -> None:
    owner = await lamp(tester)
    for username in ("zoe", "rich"):
        await tester.do("createCustomer", "clientMutationId", owner, productId=1000, username=username, externalId=f"crm-{username}")
    rich = await Customer.get(username="rich")
    await Device.create(device_id=ID, product=await Product.get(), owner=rich, created_at=datetime.now(UTC))

    completed, refused = await sign_up(tester, "ZOE"), await sign_up(tester, "rich")

    assert (codes(completed), codes(refused)) == ([], ["ALREADY_EXISTS"])
    assert completed["customer"]["username"] == "zoe"
    assert await Customer.filter(password_hash=None).values_list("username", flat=True) == ["rich"]
    assert codes(await sign_up(tester, "zoe")) == ["ALREADY_EXISTS"]


async def test_of_ten_who_complete_an_account_at_once_one_gets_it(postgres_tester: HouseTester) -> None:
    owner = await lamp(postgres_tester)
    await postgres_tester.do("createCustomer", "clientMutationId", owner, productId=1000, username="zoe")

    answers = await asyncio.gather(*(sign_up(postgres_tester, "zoe") for _ in range(10)))

    assert sorted(code for each in answers for code in codes(each)) == ["ALREADY_EXISTS"] * 9
    assert await Token.filter(customer__username="zoe").count() == 1


async def test_nothing_of_a_customers_session_is_stored_as_it_is_shown(tester: HouseTester) -> None:
    await lamp(tester)
    token = (await sign_up(tester))["token"]

    stored = str(await everything())

    assert "kim@example.com" in stored
    assert [secret for secret in (token, PASSWORD) if secret in stored] == []


async def test_the_eleventh_wrong_password_is_slowed_and_the_right_one_with_it(slowing_tester: HouseTester) -> None:
    await lamp(slowing_tester)
    await sign_up(slowing_tester)

    wrong = [await log_in(slowing_tester, password=f"guess number {n}") for n in range(11)]
    right = await log_in(slowing_tester)

    assert [codes(each) for each in wrong] == [["WRONG_CREDENTIALS"]] * 10 + [["RATE_LIMITED"]]
    assert (codes(right), right["token"]) == (["RATE_LIMITED"], None)


async def test_ten_sign_ups_an_hour_come_from_one_address(slowing_tester: HouseTester) -> None:
    await lamp(slowing_tester)  # whose owner's sign-up was the first

    answers = [codes(await sign_up(slowing_tester, f"kim-{n}")) for n in range(10)]

    assert answers == [[]] * 9 + [["RATE_LIMITED"]]
