"""The pages: a card by its name, the bank's check, an invoice to print; strangers see nothing."""

from typing import Any

import pytest
import stripe

from billing.sandbox.app import Sandbox
from models.sandbox_billing import SandboxObject
from tests.billing.sandbox.account import DAY, Account, Payer
from tests.billing.sandbox.conftest import Wall
from tests.billing.sandbox.test_requests import browser

NUMBER = "4242 4242 4242 4242"


def path_of(url: str) -> str:
    assert url.startswith("http://127.0.0.1:8000/billing-sandbox/")
    return url.removeprefix("http://127.0.0.1:8000/billing-sandbox")


async def session(account: Account) -> tuple[Payer, Any]:
    payer = await account.payer(card=None)
    back = "http://here/billing?session={CHECKOUT_SESSION_ID}"
    asked = {"mode": "setup", "customer": payer.id, "currency": "usd", "success_url": back}
    return payer, await account.v1.checkout.sessions.create_async(asked | {"setup_intent_data": {"metadata": {"setup_id": "7"}}})


async def test_a_form_takes_a_test_card_by_its_name_and_leads_back(sandbox: Sandbox, account: Account) -> None:
    payer, made = await session(account)
    path = path_of(made["url"])

    async with browser(sandbox, "") as client:
        page = await client.get(path)
        sent = await client.post(path, data={"card": "pm_card_visa"})
        again = await client.post(path, data={"card": "pm_card_visa"})
    done = await account.v1.checkout.sessions.retrieve_async(made["id"], {"expand": ["setup_intent.payment_method"]})

    assert "<option>pm_card_visa</option>" in page.text
    assert "<input" not in page.text  # there is no field that a number could be typed into
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (sent.status_code, sent.headers["location"]) == (303, f"http://here/billing?session={made['id']}")
    assert again.status_code == 400
    assert (done["status"], done["url"]) == ("complete", None)
    assert done["setup_intent"]["status"] == "succeeded"
    assert done["setup_intent"]["metadata"]["setup_id"] == "7"
    assert done["setup_intent"]["payment_method"]["customer"] == payer.id
    assert (await account.told(payer))[-3:] == ["payment_method.attached", "setup_intent.succeeded", "checkout.session.completed"]


@pytest.mark.parametrize(("card", "status"), [("pm_card_visa_chargeDeclined", 402), (NUMBER, 400), ("", 400)])
async def test_a_declined_card_or_a_number_leaves_the_page_open(sandbox: Sandbox, account: Account, card: str, status: int) -> None:
    payer, made = await session(account)

    async with browser(sandbox, "") as client:
        sent = await client.post(path_of(made["url"]), data={"card": card})

    assert sent.status_code == status
    assert NUMBER not in sent.text
    assert (await account.v1.checkout.sessions.retrieve_async(made["id"]))["status"] == "open"
    assert (await account.v1.payment_methods.list_async({"customer": payer.id})).data == []


async def test_a_page_nobody_used_expires_after_a_day(sandbox: Sandbox, account: Account) -> None:
    payer, made = await session(account)

    await sandbox.advance(payer.clock, account.start + 86_400)
    async with browser(sandbox, "") as client:
        page = await client.get(path_of(made["url"]))

    assert "expired" in page.text
    assert (await account.told(payer))[-1] == "checkout.session.expired"


async def test_a_page_for_a_customer_moved_ahead_stays_open_as_long_as_was_asked(sandbox: Sandbox, account: Account, wall: Wall) -> None:
    customer = (await account.v1.customers.create_async({"email": "ann@example.com"}))["id"]
    await sandbox.advance(customer, wall.at + 46 * DAY)
    asked = {"mode": "setup", "customer": customer, "currency": "usd", "expires_at": wall.at + DAY - 60}
    made = await account.v1.checkout.sessions.create_async(asked)

    shown = []
    for moment in (wall.at, wall.at + DAY - 61, wall.at + DAY - 60):
        wall.at = moment
        await sandbox.run_due()
        shown.append((await account.v1.checkout.sessions.retrieve_async(made["id"]))["status"])

    assert shown == ["open", "open", "expired"]


async def test_a_card_whose_bank_asks_at_setup_waits_for_its_owner(sandbox: Sandbox, account: Account) -> None:
    payer = await account.payer(card=None)
    intent = await account.v1.setup_intents.create_async({"customer": payer.id})

    waiting = await account.v1.setup_intents.confirm_async(intent["id"], {"payment_method": "pm_card_authenticationRequired"})
    path = path_of(waiting["next_action"]["redirect_to_url"]["url"])
    async with browser(sandbox, "") as client:
        stranger = await client.post(path.partition("?")[0], data={"answer": "yes"})
        before = await account.v1.setup_intents.retrieve_async(intent["id"])
        await client.post(path, data={"answer": "yes"})
    after = await account.v1.setup_intents.retrieve_async(intent["id"])

    assert (waiting["status"], stranger.status_code, before["status"]) == ("requires_action", 404, "requires_action")
    assert after["status"] == "succeeded"


async def test_the_invoice_page_passes_the_bank_s_check_and_the_team_is_back(sandbox: Sandbox, account: Account) -> None:
    payer = await account.payer("pm_card_authenticationRequired")
    made = await account.subscribe(payer, pay=False)
    with pytest.raises(stripe.CardError):
        await account.v1.invoices.pay_async(made["latest_invoice"]["id"])
    invoice = await account.v1.invoices.retrieve_async(made["latest_invoice"]["id"])
    path = path_of(invoice["hosted_invoice_url"])

    async with browser(sandbox, "") as client:
        stranger = await client.post(path.partition("?")[0])
        shown = await client.get(path)
        paid = await client.post(path)

    assert stranger.status_code == 404
    assert "1 × Team Plan (at $49.00 / month)" in shown.text
    assert "$49.00" in shown.text
    assert " · paid" in paid.text
    assert (await account.subscription(made["id"]))["status"] == "active"


async def test_the_portal_lists_the_customer_s_own_invoices(sandbox: Sandbox, account: Account) -> None:
    payer, other = await account.payer(), await account.payer()
    await account.subscribe(payer)
    await account.subscribe(other)
    made = await account.v1.billing_portal.sessions.create_async({"customer": payer.id})

    async with browser(sandbox, "") as client:
        page = await client.get(path_of(made["url"]))
        stranger = await client.get(path_of(made["url"]).partition("?")[0])

    numbers = {row.customer: row.body["number"] for row in await SandboxObject.filter(type="invoice")}
    assert numbers[payer.id] in page.text
    assert numbers[other.id] not in page.text
    assert stranger.status_code == 404


async def test_what_is_written_on_a_page_is_escaped(sandbox: Sandbox, account: Account) -> None:
    payer = await account.payer()
    await account.v1.customers.update_async(payer.id, {"email": "<script>alert(1)</script>"})
    made = await account.subscribe(payer)
    invoice = await account.v1.invoices.retrieve_async(made["latest_invoice"])

    async with browser(sandbox, "") as client:
        page = await client.get(path_of(invoice["hosted_invoice_url"]))

    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
