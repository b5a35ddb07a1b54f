"""Endpoints about what is paid: subscriptions, their items, invoices and previews."""

from billing.sandbox import catalog, invoicing, sessions, standing, store, subscriptions
from billing.sandbox.routes import LIST, Answer, Call, endpoint, listed
from billing.sandbox.wire import Body, Fault
from models.sandbox_billing import SandboxObject

CHANGES = (
    "items.id items.price items.quantity proration_behavior proration_date cancel_at_period_end cancellation_details.comment "
    "cancellation_details.feedback default_payment_method description metadata off_session"
)
ENDED = ("canceled", "incomplete_expired")


@endpoint(
    "post",
    "/v1/subscriptions",
    "customer items.price items.quantity trial_period_days trial_settings.end_behavior.missing_payment_method payment_behavior off_session "
    "billing_mode.type metadata description default_payment_method cancel_at_period_end proration_behavior",
)
async def create_subscription(call: Call) -> Answer:
    customer = await store.get("customer", call.given.get("customer"), param="customer")
    if call.given.get("payment_behavior") == "pending_if_incomplete":
        message = "Setting `payment_behavior` to `pending_if_incomplete` has no effect when creating a subscription."
        raise Fault(message, param="payment_behavior")
    return await subscriptions.create(call.given, customer, await call.moment(customer))


@endpoint("get", "/v1/subscriptions/{}")
async def retrieve_subscription(call: Call) -> Answer:
    return await store.get("subscription", call.id)


@endpoint("get", "/v1/subscriptions", f"customer status price created test_clock {LIST}")
async def list_subscriptions(call: Call) -> Answer:
    given = call.given
    columns = {name: given[key] for name, key in (("customer", "customer"), ("clock", "test_clock")) if key in given}
    rows = await store.listing("subscription", **columns)
    return listed(call, [row for row in rows if _fits(row, given)])


def _fits(row: SandboxObject, given: Body) -> bool:
    status, wanted = row.body["status"], given.get("status")
    by_status = wanted == "all" or status == wanted or (wanted == "ended" and status in ENDED) or (wanted is None and status != "canceled")
    by_price = given.get("price") in (None, row.body["items"]["data"][0]["price"]["id"])
    return by_status and by_price and catalog.within(row.created, given.get("created"))


@endpoint("post", "/v1/subscriptions/{}", CHANGES)
async def update_subscription(call: Call) -> Answer:
    row = await store.get("subscription", call.id)
    return await subscriptions.update(row, call.given, await call.moment(row))


@endpoint("delete", "/v1/subscriptions/{}", "prorate invoice_now cancellation_details.comment cancellation_details.feedback")
async def cancel_subscription(call: Call) -> Answer:
    row = await store.get("subscription", call.id)
    await subscriptions.cancel(row, call.given, await call.moment(row))
    return row


@endpoint("post", "/v1/subscription_items/{}", "price quantity proration_behavior proration_date off_session")
async def update_subscription_item(call: Call) -> Answer:
    row = await _subscription_of(call.id)
    given = dict(call.given)
    item: Body = {"id": call.id} | {key: given.pop(key) for key in ("price", "quantity") if key in given}
    row = await subscriptions.update(row, given | {"items": [item]}, await call.moment(row))
    updated: Body = row.body["items"]["data"][0]
    return updated


@endpoint("get", "/v1/subscription_items/{}")
async def retrieve_subscription_item(call: Call) -> Answer:
    item: Body = (await _subscription_of(call.id)).body["items"]["data"][0]
    return item


async def _subscription_of(item: str) -> SandboxObject:
    for row in await store.listing("subscription"):
        if row.body["items"]["data"][0]["id"] == item:
            return row
    return await store.get("subscription_item", item)


@endpoint("get", "/v1/invoices/{}")
async def retrieve_invoice(call: Call) -> Answer:
    return await store.get("invoice", call.id)


@endpoint("get", "/v1/invoices/{}/lines", LIST)
async def list_invoice_lines(call: Call) -> Answer:
    row = await store.get("invoice", call.id)
    return listed(call, [{**line, "invoice": row.id} for line in row.hidden["lines"]])


@endpoint("get", "/v1/invoices", f"customer subscription status created {LIST}")
async def list_invoices(call: Call) -> Answer:
    given = call.given
    rows = await store.listing("invoice", **({"customer": given["customer"]} if "customer" in given else {}))
    return listed(
        call,
        [
            row
            for row in rows
            if given.get("subscription") in (None, row.hidden["subscription"])
            and given.get("status") in (None, row.body["status"])
            and catalog.within(row.created, given.get("created"))
        ],
    )


@endpoint("post", "/v1/invoices/{}/pay", "payment_method off_session")
async def pay_invoice(call: Call) -> Answer:
    row = await store.get("invoice", call.id)
    moment = await call.moment(row)
    named = call.given.get("payment_method")
    card = await sessions.card_of(named, row.customer, row.clock, moment, param="payment_method") if named else None
    return await invoicing.pay(row, moment, card=card) or row


@endpoint("post", "/v1/invoices/{}/void")
async def void_invoice(call: Call) -> Answer:
    row = await store.get("invoice", call.id)
    await invoicing.void(row, await call.moment(row))
    return row


@endpoint("post", "/v1/invoices/{}/finalize", "auto_advance")
async def finalize_invoice(call: Call) -> Answer:
    row = await store.get("invoice", call.id)
    if row.body["status"] != "draft":
        raise Fault("This invoice is already finalized, you can't re-finalize a non-draft invoice.", code="invoice_not_editable")
    moment = await call.moment(row)
    await invoicing.finalize(row, moment)
    if row.body["status"] == "open":
        row.due_at = moment.at + moment.rules.draft_s  # it is charged in about an hour
        await store.keep(row)
    return row


@endpoint(
    "post",
    "/v1/invoices/create_preview",
    "customer subscription subscription_details.items.id subscription_details.items.price subscription_details.items.quantity "
    "subscription_details.proration_behavior subscription_details.proration_date subscription_details.cancel_at_period_end preview_mode",
)
async def preview_invoice(call: Call) -> Answer:
    given = call.given
    if given.get("preview_mode", "next") != "next":
        raise Fault("This sandbox plays the preview of the next invoice only.", code="sandbox_not_played", param="preview_mode")
    details = given.get("subscription_details", {})
    if "subscription" not in given and "items" in details:
        customer = await store.get("customer", given.get("customer"), param="customer")
        return await subscriptions.preview_new(customer, details, await call.moment(customer))
    row = await _previewed(given)
    if given.get("customer") not in (None, row.customer):
        raise Fault("The subscription belongs to another customer.", param="subscription")
    return await subscriptions.preview(row, details, await call.moment(row))


async def _previewed(given: Body) -> SandboxObject:
    """The subscription named, or the customer's only living one."""
    if "subscription" in given:
        return await store.get("subscription", given["subscription"], param="subscription")
    customer = await store.get("customer", given.get("customer"), param="customer")
    living = [row for row in await store.listing("subscription", customer=customer.id) if row.body["status"] not in standing.OVER]
    if not living:
        raise Fault(f"No upcoming invoices for customer: {customer.id}", status=404, code="invoice_upcoming_none")
    return living[0]
