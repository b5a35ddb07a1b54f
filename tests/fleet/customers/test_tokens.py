"""Tokens that the maker's server fetches for its customers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.account import Token
from models.customer import Customer
from models.operations import AuditEntry
from models.organization import Organization
from tests.customers import IDS, LAMP, a_device, codes, lamp
from tests.house import HouseTester
from tests.stored import everything, whatever_a_refusal_must_leave_alone

TOKEN = "token expiresAt"


async def two_legged(tester: HouseTester, method: str = "TWO_LEGGED") -> tuple[str, str]:
    """The token of an API user that stands for the customers, and the id of the customer it has made; who owns a device."""
    owner = await lamp(tester, method)
    machine = (await tester.do("createApiUser", "token", owner, organization="acme", name="cloud", scopes=["customers:write"]))["token"]
    made = await tester.do("createCustomer", "customer { id }", machine, productId=LAMP, username="kim", externalId="crm-1")
    assert codes(made) == []
    await a_device(owner=await Customer.get())
    return str(machine), str(made["customer"]["id"])


async def test_an_api_user_makes_a_token_for_a_customer_which_does_what_it_may_and_no_more(tester: HouseTester) -> None:
    machine, kim = await two_legged(tester)
    await a_device(IDS[1])

    payload = await tester.do("createCustomerToken", TOKEN, machine, customerId=kim, scopes=["devices:read"])

    assert codes(payload) == []
    lasts = datetime.fromisoformat(payload["expiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < lasts <= timedelta(days=1)
    seen = await tester.ask("{ viewer { kind scopes customer { username } devices { nodes { deviceId } } } }", payload["token"])
    one = {"nodes": [{"deviceId": IDS[0]}]}
    assert seen["viewer"] == {"kind": "CUSTOMER", "scopes": ["devices:read"], "customer": {"username": "kim"}, "devices": one}
    refused = await tester.do("callFunction", "returnValue", payload["token"], deviceId=IDS[0], name="blink")
    assert [(error["code"], error["reason"]) for error in refused["errors"]] == [("FORBIDDEN", "devices:call")]
    assert payload["token"] not in str(await everything())
    entry = await AuditEntry.get(action="customer.token_created")
    assert (entry.actor, entry.detail["scopes"]) == ("api-user:cloud", ["devices:read"])


@pytest.mark.parametrize("method", ["SIMPLE", "SELF_MANAGED", "OAUTH"])
async def test_elsewhere_nobody_makes_tokens_for_customers(tester: HouseTester, method: str) -> None:
    machine, kim = await two_legged(tester, method)
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createCustomerToken", TOKEN, machine, customerId=kim, scopes=["devices:read"])

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("WRONG_AUTH_METHOD", method)]
    assert await whatever_a_refusal_must_leave_alone() == before


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"scopes": []}, ["scopes"]),
        ({"scopes": ["devices:read", "customers:read"]}, ["scopes", "1"]),
        ({"expiresAt": timedelta(seconds=-1)}, ["expiresAt"]),
        ({"expiresAt": timedelta(days=91)}, ["expiresAt"]),
    ],
)
async def test_other_scopes_and_longer_times_are_refused(tester: HouseTester, given: dict[str, Any], path: list[str]) -> None:
    machine, kim = await two_legged(tester)
    times = {name: (datetime.now(UTC) + value).isoformat() for name, value in given.items() if isinstance(value, timedelta)}
    before = await whatever_a_refusal_must_leave_alone()

    payload = await tester.do("createCustomerToken", TOKEN, machine, **{"customerId": kim, "scopes": ["devices:read"]} | given | times)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", *path])]
    assert await whatever_a_refusal_must_leave_alone() == before


async def test_customers_go_on_while_the_team_does_not_pay(tester: HouseTester) -> None:
    machine, kim = await two_legged(tester)
    await Organization.all().update(billing_state="LOCKED")

    payload = await tester.do("createCustomerToken", TOKEN, machine, customerId=kim, scopes=["devices:read"])

    assert codes(payload) == []
    assert (await tester.ask("{ viewer { devices { totalCount } } }", payload["token"]))["viewer"]["devices"] == {"totalCount": 1}


async def test_when_a_customer_was_last_active_is_when_they_last_used_a_token(tester: HouseTester) -> None:
    machine, kim = await two_legged(tester)
    token = (await tester.do("createCustomerToken", TOKEN, machine, customerId=kim, scopes=["devices:read"]))["token"]
    asked = "{ viewer { customer { lastActiveAt usage { events calls lastActiveAt } } } }"

    await tester.ask("{ viewer { kind } }", token)
    seen = (await tester.ask(asked, token))["viewer"]["customer"]

    used = (await Token.get(customer_id=(await Customer.get()).id)).last_used_at
    assert used is not None
    assert datetime.fromisoformat(seen["lastActiveAt"]) == used.replace(microsecond=used.microsecond // 1000 * 1000)
    assert seen["usage"] == {"events": 0, "calls": 0, "lastActiveAt": None}
