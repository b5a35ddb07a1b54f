"""Endpoints about who pays: customers, cards, setup intents, hosted pages."""

import hmac
from copy import deepcopy

from billing.sandbox import clock, invoicing, objects, sessions, store, subscriptions, webhooks
from billing.sandbox.routes import LIST, Answer, Call, endpoint, listed
from billing.sandbox.wire import Body, Fault
from models.sandbox_billing import SandboxObject


@endpoint("post", "/v1/customers", "description email metadata name test_clock payment_method invoice_settings.default_payment_method")
async def create_customer(call: Call) -> Answer:
    named = call.given.get("test_clock")
    test_clock = await store.get(clock.TEST_CLOCK, named, param="test_clock") if named else None
    moment = await call.moment(test_clock)
    body = objects.customer(call.given, at=moment.at, clock=named)
    row = await store.add(body, clock=named)
    if card := call.given.get("payment_method"):
        found = await sessions.card_of(card, row.id, row.clock, moment, param="payment_method")
        if refusal := await sessions.attach(found, row, moment):
            raise Fault(refusal.body["error"]["message"], status=402, type="card_error", code="card_declined")
    await _set_default_card(row, call.given)
    await store.keep(row)
    await webhooks.emit("customer.created", row, moment)
    return row


@endpoint("get", "/v1/customers/{}")
async def retrieve_customer(call: Call) -> Answer:
    row = await store.find("customer", call.id)
    if row is not None and row.body.get("deleted"):
        return row
    return await store.get("customer", call.id)


@endpoint("get", "/v1/customers", f"email created test_clock {LIST}")
async def list_customers(call: Call) -> Answer:
    rows = (
        await store.listing("customer", clock=call.given.get("test_clock"))
        if "test_clock" in call.given
        else await store.listing("customer")
    )
    return listed(call, [row for row in rows if call.given.get("email") in (None, row.body["email"])])


@endpoint("post", "/v1/customers/{}", "description email metadata name invoice_settings.default_payment_method")
async def update_customer(call: Call) -> Answer:
    row = await store.get("customer", call.id)
    moment = await call.moment(row)
    before = deepcopy(row.body)
    row.body |= {key: call.given[key] or None for key in ("description", "email", "name") if key in call.given}
    row.body["metadata"] = subscriptions.merged(row.body["metadata"], call.given)
    await _set_default_card(row, call.given)
    await store.keep(row)
    await webhooks.emit("customer.updated", row, moment, before=before)
    return row


async def _set_default_card(row: SandboxObject, given: Body) -> None:
    settings = given.get("invoice_settings") or {}
    if "default_payment_method" not in settings:
        return
    wanted = settings["default_payment_method"]
    card = await store.get("payment_method", wanted, param="invoice_settings[default_payment_method]") if wanted else None
    if card and card.customer != row.id:
        raise Fault(
            f"The customer does not have a payment method with the ID {wanted}. The payment method must be attached to the customer.",
            code="resource_missing",
            param="invoice_settings[default_payment_method]",
        )
    row.body["invoice_settings"]["default_payment_method"] = card.id if card else None


@endpoint("delete", "/v1/customers/{}")
async def delete_customer(call: Call) -> Answer:
    """Its subscriptions end at once; invoices stay."""
    row = await store.get("customer", call.id)
    moment = await call.moment(row)
    for subscription in await store.listing("subscription", customer=row.id):
        if subscription.body["status"] not in ("canceled", "incomplete_expired"):
            await subscriptions.cancel(subscription, {}, moment)
    await webhooks.emit("customer.deleted", row, moment)
    row.body = {"id": row.id, "object": "customer", "deleted": True}
    await store.keep(row)
    return row


@endpoint("get", "/v1/payment_methods/{}")
async def retrieve_payment_method(call: Call) -> Answer:
    return await store.get("payment_method", call.id)


@endpoint("get", "/v1/payment_methods", f"customer type {LIST}")
async def list_payment_methods(call: Call) -> Answer:
    customer = await store.get("customer", call.given.get("customer"), param="customer")
    kind = call.given.get("type")
    return listed(call, [row for row in await store.listing("payment_method", customer=customer.id) if kind in (None, row.body["type"])])


@endpoint("get", "/v1/customers/{}/payment_methods", f"type {LIST}")
async def list_customer_payment_methods(call: Call) -> Answer:
    customer = await store.get("customer", call.id)
    return listed(call, await store.listing("payment_method", customer=customer.id))


@endpoint("post", "/v1/payment_methods/{}/attach", "customer")
async def attach_payment_method(call: Call) -> Answer:
    customer = await store.get("customer", call.given.get("customer"), param="customer")
    moment = await call.moment(customer)
    card = await sessions.card_of(call.id, customer.id, customer.clock, moment, param="id")
    return await sessions.attach(card, customer, moment) or card


@endpoint("post", "/v1/payment_methods/{}/detach")
async def detach_payment_method(call: Call) -> Answer:
    card = await store.get("payment_method", call.id)
    await sessions.detach(card, await call.moment(card))
    return card


@endpoint("post", "/v1/payment_methods", "")
async def create_payment_method(call: Call) -> Answer:
    raise Fault("No card numbers here: attach a test card by its name, such as pm_card_visa.", code="sandbox_not_played", param="card")


@endpoint("post", "/v1/setup_intents", "customer description metadata usage allowed_payment_method_types payment_method confirm return_url")
async def create_setup_intent(call: Call) -> Answer:
    named = call.given.get("customer")
    customer = await store.get("customer", named, param="customer") if named else None
    moment = await call.moment(customer)
    body = objects.setup_intent(call.given, named, at=moment.at)
    row = await store.add(body, customer=named, clock=customer.clock if customer else None)
    await webhooks.emit("setup_intent.created", row, moment)
    if call.given.get("confirm"):
        return await sessions.confirm(row, call.given.get("payment_method"), moment) or row
    if card := call.given.get("payment_method"):
        found = await sessions.card_of(card, named, row.clock, moment, param="payment_method")
        row.body |= {"payment_method": found.id, "status": "requires_confirmation"}
        await store.keep(row)
    return row


@endpoint("get", "/v1/setup_intents/{}", "client_secret")
async def retrieve_setup_intent(call: Call) -> Answer:
    row = await store.get("setup_intent", call.id)
    _check_secret(row, call)
    return row


@endpoint("get", "/v1/setup_intents", f"customer payment_method {LIST}")
async def list_setup_intents(call: Call) -> Answer:
    given = call.given
    rows = await store.listing("setup_intent", **({"customer": given["customer"]} if "customer" in given else {}))
    return listed(call, [row for row in rows if given.get("payment_method") in (None, row.body["payment_method"])])


@endpoint("post", "/v1/setup_intents/{}/confirm", "payment_method return_url")
async def confirm_setup_intent(call: Call) -> Answer:
    row = await store.get("setup_intent", call.id)
    _check_secret(row, call)
    return await sessions.confirm(row, call.given.get("payment_method"), await call.moment(row)) or row


@endpoint("post", "/v1/setup_intents/{}/cancel", "cancellation_reason")
async def cancel_setup_intent(call: Call) -> Answer:
    row = await store.get("setup_intent", call.id)
    if row.body["status"] in ("succeeded", "canceled"):
        raise Fault(f"You cannot cancel this SetupIntent because it is {row.body['status']}.", code="setup_intent_unexpected_state")
    row.body |= {"status": "canceled", "cancellation_reason": call.given.get("cancellation_reason")}
    await store.keep(row)
    await webhooks.emit("setup_intent.canceled", row, await call.moment(row))
    return row


@endpoint("get", "/v1/payment_intents/{}", "client_secret")
async def retrieve_payment_intent(call: Call) -> Answer:
    row = await store.get("payment_intent", call.id)
    _check_secret(row, call)
    return row


@endpoint("post", "/v1/payment_intents/{}/confirm", "payment_method return_url")
async def confirm_payment_intent(call: Call) -> Answer:
    """What a browser does with an invoice's client secret."""
    row = await store.get("payment_intent", call.id)
    _check_secret(row, call)
    invoice = await store.get("invoice", row.hidden["invoice"])
    moment = await call.moment(invoice)
    named = call.given.get("payment_method")
    card = await sessions.card_of(named, row.customer, invoice.clock, moment, param="payment_method") if named else None
    refusal = await invoicing.pay(invoice, moment, card=card)
    row = await store.get("payment_intent", call.id)
    return row.body if row.body["status"] == "requires_action" else refusal or row


def _check_secret(row: SandboxObject, call: Call) -> None:
    """A browser proves with the client secret that it was meant."""
    if call.secret and not hmac.compare_digest(call.secret.encode(), str(row.body["client_secret"]).encode()):
        raise Fault(f"The client_secret provided does not match any associated {row.type} on this account.", param="client_secret")


@endpoint(
    "post",
    "/v1/checkout/sessions",
    "mode customer success_url cancel_url client_reference_id currency expires_at metadata allowed_payment_method_types ui_mode "
    "setup_intent_data.metadata setup_intent_data.description",
)
async def create_checkout_session(call: Call) -> Answer:
    given = call.given
    if given.get("mode") != "setup" or given.get("ui_mode", "hosted_page") != "hosted_page":
        raise Fault("This sandbox plays hosted pages that set up a card only: mode=setup.", param="mode")
    customer = await store.get("customer", given.get("customer"), param="customer")
    moment = await call.moment(customer)
    intent = await store.add(
        objects.setup_intent(given.get("setup_intent_data", {}), customer.id, at=moment.at), customer=customer.id, clock=customer.clock
    )
    body = objects.checkout_session(given, customer.id, intent.id, at=moment.at, page_url=moment.rules.page_url)
    # Whoever asks counts from the wall's clock: on one that is ahead, the page is open as long from now.
    due_at = body["expires_at"] + (moment.at - call.wall if given.get("expires_at") else 0)
    return await store.add(body, customer=customer.id, clock=customer.clock, due_at=due_at)


@endpoint("get", "/v1/checkout/sessions/{}")
async def retrieve_checkout_session(call: Call) -> Answer:
    return await store.get("checkout.session", call.id)


@endpoint("post", "/v1/checkout/sessions/{}/expire")
async def expire_checkout_session(call: Call) -> Answer:
    row = await store.get("checkout.session", call.id)
    if row.body["status"] != "open":
        raise Fault("Only Checkout Sessions with a status in open can be expired.")
    await sessions.play(row, await call.moment(row))
    return row


@endpoint("post", "/v1/billing_portal/sessions", "customer return_url")
async def create_portal_session(call: Call) -> Answer:
    customer = await store.get("customer", call.given.get("customer"), param="customer")
    moment = await call.moment(customer)
    made, key = store.fresh_id("bps"), store.chance()
    body: Body = {
        "id": made,
        "object": "billing_portal.session",
        "configuration": "bpc_sandbox",
        "created": moment.at,
        "customer": customer.id,
        "customer_account": None,
        "flow": None,
        "livemode": False,
        "locale": None,
        "on_behalf_of": None,
        "return_url": call.given.get("return_url"),
        "url": f"{moment.rules.page_url}/portal/{made}?key={key}",
    }
    return await store.add(body, customer=customer.id, clock=customer.clock, hidden={"key": key})
