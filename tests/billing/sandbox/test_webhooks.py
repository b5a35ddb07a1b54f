"""Webhooks: signed as the SDK expects, repeated until they arrive, and to a test's wish twice and in disorder."""

import asyncio
import json
import random

import pytest
import stripe

from billing.sandbox.app import Sandbox, sandbox_app
from billing.sandbox.client import stripe_client_for
from billing.sandbox.webhooks import Disorder, post
from models.database import database
from models.sandbox_billing import SandboxDelivery
from settings import Settings
from tests.billing.sandbox.account import DAY, Account
from tests.billing.sandbox.conftest import Mailbox, Wall

SECRET = "whsec_of_the_tests"


def types(mailbox: Mailbox) -> list[str]:
    return [json.loads(body)["type"] for _, body, _ in mailbox.received]


async def test_an_event_is_delivered_after_its_request_with_a_signature_the_sdk_believes(
    sandbox: Sandbox, account: Account, mailbox: Mailbox
) -> None:
    await sandbox.endpoint("http://here/webhook", secret=SECRET, events=("customer.created",))

    customer = await account.v1.customers.create_async({"email": "ann@example.com"})
    await sandbox.settled()

    [(url, body, headers)] = mailbox.received
    event = stripe.Webhook.construct_event(body, headers["stripe-signature"], SECRET)
    assert (url, event["type"], event["data"]["object"]["id"]) == ("http://here/webhook", "customer.created", customer["id"])
    assert (event["api_version"], event["livemode"]) == (stripe.api_version, False)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, headers["stripe-signature"], "whsec_of_somebody_else")


async def test_the_secret_of_an_endpoint_made_by_the_api_is_told_once(account: Account) -> None:
    made = await account.v1.webhook_endpoints.create_async({"url": "http://here/webhook", "enabled_events": ["*"]})
    again = await account.v1.webhook_endpoints.retrieve_async(made["id"])

    assert made["secret"].startswith("whsec_")
    assert "secret" not in again


async def test_a_refused_delivery_comes_again_after_1_10_60_and_then_every_600_seconds_for_a_day(
    sandbox: Sandbox, account: Account, mailbox: Mailbox, wall: Wall
) -> None:
    await sandbox.endpoint("http://here/webhook", secret=SECRET, events=("customer.created",))
    begin, mailbox.answers = wall.at, [500] * 1000
    await account.v1.customers.create_async({})
    await sandbox.settled()
    attempts, signed = [0], [mailbox.received[0][2]["stripe-signature"]]

    while (due := (await SandboxDelivery.get()).due_at) is not None:
        wall.at = due - 1
        await sandbox.run_due()
        assert len(mailbox.received) == len(attempts)
        wall.at = due
        await sandbox.run_due()
        attempts.append(due - begin)
        signed.append(mailbox.received[-1][2]["stripe-signature"])

    assert attempts[:6] == [0, 1, 11, 71, 671, 1271]
    assert 86_400 - 600 < attempts[-1] <= 86_400
    assert len(set(signed)) == len(attempts)  # each attempt is signed with its own time
    assert len({body for _, body, _ in mailbox.received}) == 1


async def test_a_delivery_that_arrives_late_comes_no_more(sandbox: Sandbox, account: Account, mailbox: Mailbox, wall: Wall) -> None:
    await sandbox.endpoint("http://here/webhook", secret=SECRET, events=("customer.created",))
    mailbox.answers = [500, 302, 204]
    await account.v1.customers.create_async({})
    await sandbox.settled()

    for _ in range(5):
        wall.at += 700
        await sandbox.run_due()

    delivery = await SandboxDelivery.get()
    assert (len(mailbox.received), delivery.attempts, delivery.status, delivery.due_at) == (3, 3, 204, None)


async def test_an_endpoint_that_raises_is_one_that_did_not_answer(sandbox: Sandbox, account: Account) -> None:
    async def broken(url: str, body: bytes, headers: dict[str, str]) -> int:
        raise ValueError("nobody is here")

    sandbox._deliver = broken
    await sandbox.endpoint("http://here/webhook", secret=SECRET)
    await account.v1.customers.create_async({})
    await sandbox.settled()

    delivery = await SandboxDelivery.get()
    assert (delivery.status, delivery.attempts, delivery.delivered_at) == (0, 1, None)


async def test_only_what_an_endpoint_asked_for_goes_there(sandbox: Sandbox, account: Account, mailbox: Mailbox) -> None:
    await sandbox.endpoint("http://here/webhook", secret=SECRET, events=("customer.updated",))

    await account.payer()
    await sandbox.settled()

    assert types(mailbox) == ["customer.updated"]


async def test_a_deleted_endpoint_gets_nothing_more(sandbox: Sandbox, account: Account, mailbox: Mailbox) -> None:
    endpoint = await sandbox.endpoint("http://here/webhook", secret=SECRET)
    await account.v1.webhook_endpoints.delete_async(endpoint)

    await account.v1.customers.create_async({})
    await sandbox.settled()

    assert mailbox.received == []


async def test_an_address_registered_again_stays_one_endpoint_with_the_new_secret(
    sandbox: Sandbox, account: Account, mailbox: Mailbox
) -> None:
    first = await sandbox.endpoint("http://here/webhook", secret="whsec_old")
    second = await sandbox.endpoint("http://here/webhook", secret=SECRET)

    await account.v1.customers.create_async({})
    await sandbox.settled()

    assert first == second
    assert len(mailbox.received) == 1
    assert stripe.Webhook.construct_event(mailbox.received[0][1], mailbox.received[0][2]["stripe-signature"], SECRET)


async def test_the_switch_of_tests_delivers_twice_and_in_disorder(sandbox_settings: Settings, mailbox: Mailbox, wall: Wall) -> None:
    async with database(sandbox_settings):
        disorder = Disorder(duplicate=True, shuffle=random.Random(7))
        sandbox = sandbox_app(sandbox_settings, deliver=mailbox, now=wall, disorder=disorder)
        account = Account(stripe_client_for(sandbox).v1, move=sandbox.advance)
        await sandbox.endpoint("http://here/webhook", secret=SECRET)
        payer = await account.payer()
        await sandbox.settled()
        mailbox.received.clear()

        await account.trial(payer)
        await sandbox.settled()

        told = await account.told(payer)
        born = told[told.index("customer.updated") + 1 :]
        assert sorted(types(mailbox)) == sorted(born * 2)
        assert types(mailbox) != [kind for kind in born for _ in range(2)]
        assert await SandboxDelivery.filter(due_at__not_isnull=True).count() == 0


async def test_nothing_is_told_of_what_was_rolled_back(sandbox: Sandbox, account: Account, mailbox: Mailbox) -> None:
    payer = await account.payer("pm_card_chargeCustomerFail")
    await sandbox.endpoint("http://here/webhook", secret=SECRET)
    asked = {"customer": payer.id, "items": [{"price": await account.price()}], "payment_behavior": "error_if_incomplete"}
    await sandbox.settled()
    mailbox.received.clear()

    with pytest.raises(stripe.CardError):
        await account.v1.subscriptions.create_async(asked)
    await sandbox.settled()

    assert mailbox.received == []
    assert (await account.v1.subscriptions.list_async({"customer": payer.id, "status": "all"})).data == []


async def test_nobody_at_an_address_is_status_0() -> None:
    assert await post("http://127.0.0.1:9/webhook", b"{}", {}) == 0


async def test_a_move_is_not_over_before_what_another_process_delivers_has_arrived(
    sandbox: Sandbox, account: Account, sandbox_settings: Settings, wall: Wall
) -> None:
    """The worker's tick once took the last webhook of a move, whose caller was then answered from before it."""
    taken, answer = asyncio.Event(), asyncio.Event()

    async def slow(url: str, body: bytes, headers: dict[str, str]) -> int:
        taken.set()
        await answer.wait()
        return 200

    customer = (await account.v1.customers.create_async({}))["id"]
    await sandbox.settled()
    await sandbox.endpoint("http://here/webhook", secret=SECRET)
    elsewhere = sandbox_app(sandbox_settings, deliver=slow, now=wall)
    await stripe_client_for(elsewhere).v1.customers.update_async(customer, {"email": "ann@example.com"})
    await taken.wait()

    waiting = [asyncio.create_task(sandbox.advance(customer, wall.at + DAY)), asyncio.create_task(sandbox.settled())]
    over, _ = await asyncio.wait(waiting, timeout=0.5)
    answer.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 60)

    assert over == set()
    assert (await SandboxDelivery.get()).delivered_at is not None
    await elsewhere.settled()
