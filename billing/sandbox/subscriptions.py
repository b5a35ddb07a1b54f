"""Subscriptions: begun, changed, renewed, ended, and what the next invoice would be."""

from copy import deepcopy

from billing.sandbox import changing, charging, invoice_objects, invoicing, objects, standing, store, webhooks
from billing.sandbox.moment import DAY_S, Moment
from billing.sandbox.proration import Period, period_after
from billing.sandbox.wire import Body, Fault
from models.sandbox_billing import SandboxObject

TRIAL_MAX_DAYS = 730


async def create(given: Body, customer: SandboxObject, moment: Moment) -> SandboxObject:
    """Begin with a trial, for nothing, or with an invoice that is charged as `payment_behavior` says."""
    price, quantity = await _what_is_bought(given)
    trial_end = _trial_end(given, moment)
    anchor = trial_end or moment.at
    body = objects.subscription(given, customer.body, at=moment.at, trial_end=trial_end, anchor=anchor)
    _put_item(body, price, quantity, moment.at)
    row = await store.add(body, customer=customer.id, clock=customer.clock)
    if card := given.get("default_payment_method"):
        body["default_payment_method"] = (await store.get("payment_method", card, param="default_payment_method")).id
    await _cancel_flag(row, given, moment)
    lines = [*await _take_pending(customer.id), *changing.first_lines(body, await _names())]
    period = Period(moment.at, moment.at)  # nothing has ended yet
    invoice = await invoicing.draft(row, customer, lines, moment, reason="subscription_create", period=period, waits=False)
    await standing.keep(row, moment)
    await webhooks.emit("customer.subscription.created", row, moment)
    await invoicing.finalize(invoice, moment)
    await _first_payment(invoice, given.get("payment_behavior", "allow_incomplete"), moment)
    return await store.get("subscription", row.id)


def _put_item(body: Body, price: Body, quantity: int, at: int) -> None:
    recurring = price["recurring"]
    end = body["trial_end"] or period_after(at, at, recurring["interval"], recurring["interval_count"]).end
    body["items"]["data"] = [objects.subscription_item(price, quantity, body["id"], start=at, end=end, at=at)]
    body["items"]["url"] += f"?subscription={body['id']}"


async def _what_is_bought(given: Body) -> tuple[Body, int]:
    items = given.get("items") or []
    if len(items) != 1 or "price" not in items[0]:
        raise Fault("This sandbox plays subscriptions of exactly one item with a price.", param="items")
    quantity = items[0].get("quantity", 1)
    return await _price(items[0]["price"], "items[0][price]"), _at_least_one(quantity)


async def _price(id: str, param: str) -> Body:
    price: Body = (await store.get("price", id, param=param)).body
    if not price["active"] or not price["recurring"]:
        raise Fault(f"The price {id} is inactive or not recurring.", param=param)
    return price


def _at_least_one(quantity: int) -> int:
    if quantity < 1:
        raise Fault("This sandbox plays quantities of at least 1.", param="items[0][quantity]")
    return quantity


def _trial_end(given: Body, moment: Moment) -> int | None:
    days = given.get("trial_period_days")
    if days is None:
        return None
    if not 1 <= days <= TRIAL_MAX_DAYS:
        raise Fault(f"The trial must be 1 to {TRIAL_MAX_DAYS} days.", param="trial_period_days")
    return moment.at + int(days) * DAY_S


async def _first_payment(invoice: SandboxObject, behavior: str, moment: Moment) -> None:
    if invoice.body["status"] != "open" or behavior == "default_incomplete":
        return
    if await invoicing.usable_card(invoice) is None:
        raise Fault(charging.NO_CARD, code="resource_missing")
    said = await invoicing.charge(invoice, moment, automatic=True)
    if said and behavior == "error_if_incomplete":
        error = charging.action_required("subscription") if said == charging.AUTHENTICATE else charging.declined(said)
        raise Fault(error["message"], status=402, type="card_error", code=error["code"])


async def update(row: SandboxObject, given: Body, moment: Moment) -> SandboxObject:
    """Seats, plan, the wish to end, words. Raises Fault once it is over."""
    if row.body["status"] in standing.OVER and given.keys() - {"metadata", "cancellation_details"}:
        message = "A canceled subscription can only update its cancellation_details and metadata."
        raise Fault(message, code="invalid_canceled_subscription_fields")
    before = deepcopy(row.body)
    made = await _changed(row.body, given, moment)
    row.body = made.body
    await _cancel_flag(row, given, moment)
    if "default_payment_method" in given:
        card = await store.get("payment_method", given["default_payment_method"], param="default_payment_method")
        row.body["default_payment_method"] = card.id
    row.body["metadata"] = merged(row.body["metadata"], given)
    row.body["description"] = given.get("description", row.body["description"])
    for line in made.pending:
        await store.add({**line, "created": moment.at}, customer=row.customer, clock=row.clock, hidden={"subscription": row.id})
    invoice = await _bill_now(row, made, moment)
    await standing.keep(row, moment, before)
    if invoice is not None:
        await invoicing.finalize(invoice, moment)
        if invoice.body["status"] == "open":
            await invoicing.charge(invoice, moment, automatic=True)
    return await store.get("subscription", row.id)


async def _changed(body: Body, given: Body, moment: Moment) -> changing.Change:
    items = given.get("items")
    if not items:
        return changing.Change(deepcopy(body))
    current = body["items"]["data"][0]
    if len(items) != 1 or items[0].get("id") != current["id"]:
        raise Fault(f"This sandbox plays subscriptions of one item: say its id, {current['id']}.", param="items[0][id]")
    price = await _price(items[0]["price"], "items[0][price]") if "price" in items[0] else current["price"]
    # With a new price and no quantity it falls to 1: so does the real thing.
    quantity = _at_least_one(items[0].get("quantity", 1 if price["id"] != current["price"]["id"] else current["quantity"]))
    period = standing.period_of(body)
    prorated_at = given.get("proration_date", moment.at)
    if not period.start <= prorated_at <= period.end:
        raise Fault("Cannot specify `proration_date` outside of current subscription period.", param="proration_date")
    behavior = given.get("proration_behavior", "create_prorations")
    return changing.change(body, price, quantity, await _names(), at=moment.at, prorated_at=prorated_at, behavior=behavior)


async def _bill_now(row: SandboxObject, made: changing.Change, moment: Moment) -> SandboxObject | None:
    if not made.now:
        return None
    customer = await store.get("customer", row.customer)
    lines = [*await _take_pending(customer.id), *made.now]
    period = standing.period_of(row.body)
    return await invoicing.draft(row, customer, lines, moment, reason="subscription_update", period=period, waits=False)


async def _cancel_flag(row: SandboxObject, given: Body, moment: Moment) -> None:
    """`cancel_at_period_end` and what is said about it; asked for, it is to be seen when it was and when it ends."""
    body = row.body
    details = given.get("cancellation_details") or {}
    body["cancellation_details"] |= {key: value or None for key, value in details.items()}
    wanted = given.get("cancel_at_period_end", body["cancel_at_period_end"])
    if wanted and not body["cancel_at_period_end"]:
        body |= {"cancel_at_period_end": True, "cancel_at": standing.period_of(body).end, "canceled_at": moment.at}
        body["cancellation_details"]["reason"] = "cancellation_requested"
    elif body["cancel_at_period_end"] and not wanted:
        body |= {"cancel_at_period_end": False, "cancel_at": None, "canceled_at": None}
        body["cancellation_details"] = {"comment": None, "feedback": None, "reason": None}


async def cancel(row: SandboxObject, given: Body, moment: Moment) -> None:
    """At once, without a last bill and without credit: what waited to be billed is forgotten."""
    if row.body["status"] in standing.OVER:
        raise Fault(f"No such subscription: '{row.id}'", status=404, code="resource_missing", param="id")
    if given.get("prorate") or given.get("invoice_now"):
        raise Fault("This sandbox plays a cancellation with prorate and invoice_now false only.", param="prorate")
    row.body["cancellation_details"] |= {key: value or None for key, value in (given.get("cancellation_details") or {}).items()}
    await _take_pending(row.customer)
    await standing.end(row, moment, reason="cancellation_requested")


async def play(row: SandboxObject, moment: Moment) -> None:
    """What falls due of a subscription."""
    body = row.body
    if body["status"] == "incomplete":
        await _expire(row, moment)
    elif body["cancel_at"] and body["cancel_at"] <= moment.at:
        await _last_bill(row, moment)
        await standing.end(row, moment, reason="cancellation_requested")
    elif standing.period_of(body).end <= moment.at:
        await _renew(row, moment)
    else:
        await standing.tell_trial_end(row, moment)


async def _expire(row: SandboxObject, moment: Moment) -> None:
    """Nobody paid in time: the first invoice is void, and the subscription never was."""
    await standing.end(row, moment, reason=None, status="incomplete_expired")
    invoice = await store.find("invoice", row.body["latest_invoice"])
    if invoice and invoice.body["status"] == "open":
        await invoicing.void(invoice, moment)


async def _last_bill(row: SandboxObject, moment: Moment) -> None:
    """What still waited to be billed is collected at the period's end."""
    lines = await _take_pending(row.customer)
    if lines:
        customer = await store.get("customer", row.customer)
        await invoicing.draft(row, customer, lines, moment, reason="subscription_cycle", period=standing.period_of(row.body))


async def _renew(row: SandboxObject, moment: Moment) -> None:
    """The next period begins; its invoice is a draft for an hour. A trial without a card may end here instead."""
    customer = await store.get("customer", row.customer)
    before = deepcopy(row.body)
    if row.body["status"] == "trialing":
        card = row.body["default_payment_method"] or customer.body["invoice_settings"]["default_payment_method"]
        missing = row.body["trial_settings"]["end_behavior"]["missing_payment_method"]
        if card is None and missing == "cancel":
            return await standing.end(row, moment, reason="cancellation_requested")
        if card is None and missing == "pause":
            return await standing.become(row, "paused", moment)
        row.body["status"] = "active"
    ended = changing.roll(row.body)
    lines = changing.renewal_lines(row.body, await _take_pending(row.customer), await _names())
    await invoicing.draft(row, customer, lines, moment, reason="subscription_cycle", period=ended)
    await standing.keep(row, moment, before)
    return None


async def preview(row: SandboxObject, given: Body, moment: Moment) -> Body:
    """The invoice that would come next if `given` (as for an update) were done now; nothing is changed. Raises Fault when none would."""
    customer = await store.get("customer", row.customer)
    if row.body["status"] in standing.OVER:
        raise _no_upcoming(customer.id)
    made = await _changed(row.body, given, moment)
    body = made.body
    waiting = [*await _pending(customer.id), *made.pending]
    ends = given.get("cancel_at_period_end", body["cancel_at_period_end"])
    if made.now:
        lines, period, at = [*waiting, *made.now], standing.period_of(body), moment.at
    elif ends:
        lines, period, at = waiting, standing.period_of(body), standing.period_of(body).end
    else:
        period = changing.roll(body)
        lines, at = changing.renewal_lines(body, waiting, await _names()), period.end
    if not lines:
        raise _no_upcoming(customer.id)
    reason = "subscription_update" if made.now else "upcoming"
    drawn = invoice_objects.invoice(body, customer.body, lines, at=at, reason=reason, period=period, named=store.fresh_id("upcoming_in"))
    ending = invoice_objects.ending_balance(drawn["total"], drawn["starting_balance"])
    return drawn | {"next_payment_attempt": None if made.now else at + moment.rules.draft_s, "ending_balance": ending}


async def preview_new(customer: SandboxObject, given: Body, moment: Moment) -> Body:
    """The first invoice of a subscription to these items that would begin now, without a trial."""
    price, quantity = await _what_is_bought(given)
    body = objects.subscription(given, customer.body, at=moment.at, trial_end=None, anchor=moment.at)
    _put_item(body, price, quantity, moment.at)
    lines = [*await _pending(customer.id), *changing.first_lines(body, await _names())]
    period = Period(moment.at, moment.at)
    named = store.fresh_id("upcoming_in")
    return invoice_objects.invoice(body, customer.body, lines, at=moment.at, reason="upcoming", period=period, named=named)


def _no_upcoming(customer: str) -> Fault:
    return Fault(f"No upcoming invoices for customer: {customer}", status=404, code="invoice_upcoming_none")


async def _pending(customer: str | None) -> list[Body]:
    rows = await SandboxObject.filter(type="line_item", customer=customer).order_by("number")
    return [{key: value for key, value in row.body.items() if key != "created"} for row in rows]


async def _take_pending(customer: str | None) -> list[Body]:
    lines = await _pending(customer)
    await SandboxObject.filter(type="line_item", customer=customer).delete()
    return lines


async def _names() -> dict[str, str]:
    return {row.id: row.body["name"] for row in await store.listing("product")}


def merged(metadata: Body, given: Body) -> Body:
    """Keys are set one by one; an empty value removes its key, an empty whole removes all."""
    if "metadata" not in given:
        return metadata
    if not given["metadata"]:
        return {}
    return {key: value for key, value in {**metadata, **given["metadata"]}.items() if value != ""}
