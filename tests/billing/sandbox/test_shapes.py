"""Answers have the form the SDK's classes describe; the `account` fixture checks every one, here the checker itself is tried."""

from copy import deepcopy
from typing import Any

import pytest

from billing.sandbox import objects, routes, shapes
from billing.sandbox.app import Sandbox
from billing.sandbox.charging import CARDS
from billing.sandbox.shapes import WrongShape, check, require_shape
from models.sandbox_billing import SandboxObject
from tests.billing.sandbox.account import DAY, Account

CUSTOMER = objects.customer({"email": "ann@example.com"}, at=1, clock=None)
METHOD = objects.payment_method(CARDS["pm_card_visa"], "cus_1", at=1)


def test_a_good_answer_has_no_fault() -> None:
    assert [*check(CUSTOMER), *check(METHOD)] == []
    assert list(check({"id": "cus_1", "object": "customer", "deleted": True})) == []


@pytest.mark.parametrize(
    ("body", "change", "fault"),
    [
        (CUSTOMER, {"livemode": None}, "customer.livemode is None, not bool"),
        (CUSTOMER, {"created": "1"}, "customer.created is '1', not int"),
        (CUSTOMER, {"created": True}, "customer.created is True, not int"),
        (CUSTOMER, {"shoe_size": 44}, "customer.shoe_size is unknown"),
        (CUSTOMER, {"metadata": []}, "customer.metadata is [], not a mapping"),
        (CUSTOMER, {"tax_exempt": "maybe"}, "customer.tax_exempt is 'maybe', not one of ('exempt', 'none', 'reverse')"),
        (CUSTOMER, {"invoice_settings": {"footer": 1}}, "customer.invoice_settings.footer is 1, not str"),
        (CUSTOMER, {"test_clock": {"object": "test_helpers.test_clock"}}, "customer.test_clock.created is missing"),
        (CUSTOMER, {"preferred_locales": ["en", 1]}, "customer.preferred_locales[1] is 1, not str"),
        (METHOD, {"type": "gold"}, "payment_method.type is 'gold', not one of"),
        (METHOD, {"card": {"last4": "4242"}}, "payment_method.card.brand is missing"),
    ],
)
def test_a_planted_fault_is_found(body: dict[str, Any], change: dict[str, Any], fault: str) -> None:
    assert any(found.startswith(fault) for found in check(deepcopy(body) | change))


def test_a_missing_field_and_a_broken_list_are_found() -> None:
    less = {key: value for key, value in CUSTOMER.items() if key != "livemode"}
    listed = {"object": "list", "data": [less], "has_more": False, "url": "/v1/customers"}

    assert list(check(less)) == ["customer.livemode is missing"]
    assert list(check(listed)) == ["customer.livemode is missing"]
    assert list(check({**listed, "total": 1})) == ["list is no list object"]
    assert list(check({"object": "nonsense"})) == ["no class for 'nonsense'"]
    with pytest.raises(WrongShape, match=r"get /v1/customers/\{\}: customer\.livemode is missing"):
        require_shape(less, "get", "/v1/customers/{}")


def test_every_field_of_the_classes_we_answer_with_can_be_read() -> None:
    """A type that the checker cannot resolve would pass unseen."""
    for kind in ("customer", "subscription", "invoice", "line_item", "price", "product", "payment_method", "setup_intent", "event"):
        module, name = shapes.OBJECT_CLASSES[kind]
        known = getattr(__import__(module, fromlist=[name]), name)
        for field, annotation in shapes.annotations(known).items():
            shapes._resolved(annotation, known)
            assert field


async def test_every_endpoint_answers_in_form(account: Account, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls all of them once; one that nobody calls fails here, so that a new one cannot go unchecked."""
    checked: set[tuple[str, str]] = set()
    real = shapes.require_shape

    def note(body: dict[str, Any], verb: str, template: str) -> None:
        real(body, verb, template)
        checked.add((verb, template))

    monkeypatch.setattr(shapes, "require_shape", note)
    await call_everything(account, sandbox)

    played = {(route.verb, route.template) for route in routes.ROUTES} - {("post", "/v1/payment_methods")}  # it only refuses
    assert played - checked == set()
    for event in await SandboxObject.filter(type="event"):
        assert list(check(event.body)) == []
        assert list(check(event.body["data"]["object"])) == []


async def call_everything(account: Account, sandbox: Sandbox) -> None:
    v1 = account.v1
    await catalog(v1)
    payer = await account.payer()
    await cards(v1, payer.id)
    subscription = await account.subscribe(payer, seats=2)
    item = subscription["items"]["data"][0]["id"]
    await v1.subscription_items.retrieve_async(item)
    await sandbox.advance(payer.clock, account.start + DAY)
    await v1.subscription_items.update_async(item, {"quantity": 3})
    waiting = await v1.invoice_items.list_async({"customer": payer.id, "pending": True})
    await v1.invoice_items.delete_async(waiting.data[0]["id"])
    await v1.subscriptions.update_async(subscription["id"], {"cancel_at_period_end": True})
    await v1.subscriptions.update_async(subscription["id"], {"cancel_at_period_end": False})
    await account.preview(payer, subscription, quantity=4)
    price = await account.price("year")
    await v1.invoices.create_preview_async({"customer": payer.id, "subscription_details": {"items": [{"price": price}]}})
    await account.give_card(payer, "pm_card_chargeCustomerFail")
    await v1.test_helpers.test_clocks.list_async()
    await sandbox.advance(payer.clock, account.start + 40 * DAY)
    await v1.subscriptions.list_async({"customer": payer.id, "status": "all", "expand": ["data.latest_invoice"]})
    invoice = (await v1.invoices.list_async({"customer": payer.id, "expand": ["data.payments"]})).data[0]["id"]
    await v1.invoices.retrieve_async(invoice, {"expand": ["confirmation_secret", "customer", "parent.subscription_details.subscription"]})
    await v1.invoices.line_items.list_async(invoice)
    await account.give_card(payer, "pm_card_authenticationRequired")
    again = await account.subscribe(payer, pay=False)
    secret = again["latest_invoice"]["confirmation_secret"]["client_secret"].partition("_secret_")[0]
    await v1.payment_intents.confirm_async(secret)
    await v1.payment_intents.retrieve_async(secret)
    await v1.invoices.void_invoice_async(again["latest_invoice"]["id"])
    await draft(account)
    await v1.subscriptions.cancel_async(again["id"], {"prorate": False, "invoice_now": False})
    await v1.events.retrieve_async((await v1.events.list_async({"type": "invoice.paid"})).data[0]["id"])
    await v1.test_helpers.test_clocks.advance_async(payer.clock, {"frozen_time": account.start + 41 * DAY})
    await sandbox.settled()
    await v1.test_helpers.test_clocks.retrieve_async(payer.clock)
    await v1.customers.delete_async(payer.id)
    await v1.customers.retrieve_async(payer.id)
    await v1.test_helpers.test_clocks.delete_async(payer.clock)


async def draft(account: Account) -> None:
    """An invoice finalized by a call, during its hour as a draft."""
    payer = await account.payer()
    subscription = await account.subscribe(payer)
    await account.move(payer.clock, subscription["items"]["data"][0]["current_period_end"] + 60)
    await account.v1.invoices.finalize_invoice_async((await account.invoices(payer))[0]["id"])


async def catalog(v1: Any) -> None:
    product = await v1.products.create_async({"name": "Team Plan"})
    await v1.products.retrieve_async(product["id"])
    await v1.products.list_async()
    asked = {"product": product["id"], "currency": "usd", "unit_amount": 4900, "recurring": {"interval": "month"}}
    price = await v1.prices.create_async(asked)
    await v1.prices.update_async(price["id"], {"nickname": "monthly"})
    await v1.prices.retrieve_async(price["id"], {"expand": ["product"]})
    await v1.prices.list_async({"active": True})
    endpoint = await v1.webhook_endpoints.create_async({"url": "http://here/hook", "enabled_events": ["invoice.paid"]})
    await v1.webhook_endpoints.retrieve_async(endpoint["id"])
    await v1.webhook_endpoints.list_async()
    await v1.webhook_endpoints.update_async(endpoint["id"], {"enabled_events": ["*"]})
    await v1.webhook_endpoints.delete_async(endpoint["id"])


async def cards(v1: Any, customer: str) -> None:
    await v1.customers.list_async({"email": "ann@example.com"})
    await v1.customers.retrieve_async(customer, {"expand": ["invoice_settings.default_payment_method", "subscriptions"]})
    card = await v1.payment_methods.attach_async("pm_card_mastercard", {"customer": customer})
    await v1.payment_methods.retrieve_async(card["id"])
    await v1.payment_methods.list_async({"customer": customer, "type": "card"})
    await v1.customers.payment_methods.list_async(customer)
    await v1.payment_methods.detach_async(card["id"])
    intent = await v1.setup_intents.create_async({"customer": customer, "payment_method": "pm_card_visa"})
    await v1.setup_intents.confirm_async(intent["id"])
    await v1.setup_intents.retrieve_async(intent["id"], {"expand": ["payment_method"]})
    await v1.setup_intents.list_async({"customer": customer})
    await v1.setup_intents.cancel_async((await v1.setup_intents.create_async({"customer": customer}))["id"])
    asked = {"mode": "setup", "customer": customer, "currency": "usd", "success_url": "http://here/"}
    session = await v1.checkout.sessions.create_async(asked)
    await v1.checkout.sessions.retrieve_async(session["id"], {"expand": ["setup_intent"]})
    await v1.checkout.sessions.expire_async(session["id"])
    await v1.billing_portal.sessions.create_async({"customer": customer, "return_url": "http://here/"})
