"""An invoice's life: drafted, finalized, charged, tried again, paid or void."""

from copy import deepcopy

from billing.sandbox import charging, invoice_objects, objects, standing, store, webhooks
from billing.sandbox.charging import AUTHENTICATE, CARDS
from billing.sandbox.moment import DAY_S, Moment
from billing.sandbox.proration import Period
from billing.sandbox.wire import Body, Fault, Reply
from models.sandbox_billing import SandboxObject


async def draft(
    subscription: SandboxObject,
    customer: SandboxObject,
    lines: list[Body],
    moment: Moment,
    *,
    reason: str,
    period: Period,
    waits: bool = True,
) -> SandboxObject:
    """A new invoice, which becomes the subscription's latest; the caller keeps the subscription. `waits`: finalizes by itself later."""
    body = invoice_objects.invoice(subscription.body, customer.body, lines, at=moment.at, reason=reason, period=period)
    held = subscription.body["status"] == "unpaid"
    finalizes_at = moment.at + moment.rules.draft_s if waits and not held else None
    body |= {"automatically_finalizes_at": finalizes_at, "next_payment_attempt": finalizes_at, "auto_advance": not held}
    subscription.body["latest_invoice"] = body["id"]
    hidden = {"subscription": subscription.id, "intent": None, "payments": [], "lines": lines}
    row = await store.add(body, customer=customer.id, clock=customer.clock, due_at=finalizes_at, hidden=hidden)
    await webhooks.emit("invoice.created", row, moment)
    return row


async def finalize(row: SandboxObject, moment: Moment) -> None:
    """From now on its lines stand. One of 0 cents is paid at once; the rest waits for charge()."""
    customer = await store.get("customer", row.customer)
    body, balance = row.body, customer.body["balance"]
    body |= invoice_objects.due(body["total"], balance)
    number = customer.body["next_invoice_sequence"]
    body |= {
        "status": "open",
        "number": f"{customer.body['invoice_prefix']}-{number:04}",
        "effective_at": moment.at,
        "ending_balance": invoice_objects.ending_balance(body["total"], balance),
        "automatically_finalizes_at": None,
        "next_payment_attempt": None,
        "hosted_invoice_url": f"{moment.rules.page_url}/invoices/{row.id}?key={store.chance()}",
    }
    body["status_transitions"]["finalized_at"] = moment.at
    await _number_used(customer, body["ending_balance"], moment)
    row.due_at = None
    if body["amount_due"]:
        intent = await store.add(
            objects.payment_intent(body["amount_due"], customer.id, at=moment.at), customer=customer.id, hidden={"invoice": row.id}
        )
        row.hidden |= {"intent": intent.id, "payments": [invoice_objects.invoice_payment(body, intent.id)]}
    await store.keep(row)
    await webhooks.emit("invoice.finalized", row, moment)
    if not body["amount_due"]:
        await settle(row, moment)


async def _number_used(customer: SandboxObject, balance: int, moment: Moment) -> None:
    before = deepcopy(customer.body)
    customer.body |= {"balance": balance, "currency": objects.CURRENCY, "next_invoice_sequence": before["next_invoice_sequence"] + 1}
    await store.keep(customer)
    if balance != before["balance"]:
        await webhooks.emit("customer.updated", customer, moment, before=before)


async def play(row: SandboxObject, moment: Moment) -> None:
    """What falls due of an invoice: the end of its hour as a draft, and each retry."""
    if row.body["status"] == "draft":
        await finalize(row, moment)
    if row.body["status"] == "open":
        await charge(row, moment, automatic=True)


async def charge(row: SandboxObject, moment: Moment, *, automatic: bool, card: SandboxObject | None = None) -> str:
    """One attempt; "" when it was paid, else what the bank said ("no_card": there is none to ask).

    Any attempt counts as the first, and after it only automatic ones; a first payment that waits for the bank's check counts none yet.
    """
    card = card or await usable_card(row)
    said = "no_card" if card is None else CARDS[card.hidden["token"]].at_charge
    first = row.body["billing_reason"] == "subscription_create"
    if (automatic or not row.body["attempt_count"]) and not (first and said == AUTHENTICATE):
        row.body["attempt_count"] += 1
    row.body["attempted"] = True
    if said:
        await _fail(row, moment, said, card, automatic=automatic)
    else:
        await settle(row, moment, card)
    return said


async def usable_card(row: SandboxObject) -> SandboxObject | None:
    """The subscription's own card first, then the customer's default."""
    subscription = await store.find("subscription", row.hidden["subscription"])
    customer = await store.get("customer", row.customer)
    own = subscription.body["default_payment_method"] if subscription else None
    return await store.find("payment_method", own or customer.body["invoice_settings"]["default_payment_method"])


async def settle(row: SandboxObject, moment: Moment, card: SandboxObject | None = None) -> None:
    """Paid: by a card, or because nothing is due."""
    body = row.body
    body |= {
        "status": "paid",
        "amount_paid": body["amount_due"],
        "amount_remaining": 0,
        "next_payment_attempt": None,
        "auto_advance": False,
    }
    body |= {"attempted": True}
    body["status_transitions"]["paid_at"] = moment.at
    row.due_at = None
    for payment in row.hidden["payments"]:
        payment |= {"status": "paid", "amount_paid": body["amount_due"]}
        payment["status_transitions"]["paid_at"] = moment.at
    await store.keep(row)
    await _intent_becomes(row, "succeeded", card)
    await webhooks.emit("invoice.paid", row, moment)
    await webhooks.emit("invoice.payment_succeeded", row, moment)
    subscription = await store.find("subscription", row.hidden["subscription"])
    if subscription:
        await standing.paid(subscription, body, moment)


async def _fail(row: SandboxObject, moment: Moment, said: str, card: SandboxObject | None, *, automatic: bool) -> None:
    subscription = await store.get("subscription", row.hidden["subscription"])
    if automatic or (row.body["attempt_count"] == 1 and row.body["next_payment_attempt"] is None):
        row.body["next_payment_attempt"] = row.due_at = _next_attempt(row.body, subscription.body, moment)
    await store.keep(row)
    await _intent_becomes(row, "requires_action" if said == AUTHENTICATE else "requires_payment_method", card, said=said)
    if said == AUTHENTICATE:
        await webhooks.emit("invoice.payment_action_required", row, moment)
    await webhooks.emit("invoice.payment_failed", row, moment)
    if automatic:
        await standing.failed(subscription, row.body, moment)


def _next_attempt(invoice: Body, subscription: Body, moment: Moment) -> int | None:
    """Null after the last retry, and for a first payment, which is its payer's to repeat."""
    days = moment.rules.retry_days
    done = int(invoice["attempt_count"])
    if subscription["status"] == "incomplete" or subscription["status"] in standing.OVER or done > len(days):
        return None
    return moment.at + days[done - 1] * DAY_S


async def _intent_becomes(row: SandboxObject, status: str, card: SandboxObject | None, said: str = "") -> None:
    intent = await store.find("payment_intent", row.hidden["intent"])
    if intent is None:
        return
    intent.body |= {"status": status, "payment_method": None, "next_action": None, "last_payment_error": None}
    if status == "succeeded":
        intent.body |= {"amount_received": intent.body["amount"], "payment_method": card.id if card else None}
    elif status == "requires_action" and card:
        page = f"{row.body['hosted_invoice_url']}"
        redirect = {"redirect_to_url": {"return_url": None, "url": page}, "type": "redirect_to_url"}
        intent.body |= {"payment_method": card.id, "next_action": redirect}
    elif said != "no_card" and card:
        intent.body["last_payment_error"] = charging.declined(said, payment_method=card.body)
    await store.keep(intent)


async def pay(row: SandboxObject, moment: Moment, *, card: SandboxObject | None) -> Reply | None:
    """Asked by the API: None when it was paid, else the answer; a failed attempt stays on record. Raises Fault for what is not open."""
    if row.body["status"] == "paid":
        raise Fault("Invoice is already paid")
    if row.body["status"] == "draft":
        await finalize(row, moment)
        if row.body["status"] == "paid":
            return None  # nothing was due
    if row.body["status"] != "open":
        raise Fault(f"This invoice is {row.body['status']} and can no longer be paid.")
    if card is None and await usable_card(row) is None:
        raise Fault(charging.NO_CARD, code="resource_missing")  # nothing was tried: no attempt, no event
    said = await charge(row, moment, automatic=False, card=card)
    return None if not said else await _refusal(row, said)


async def _refusal(row: SandboxObject, said: str) -> Reply:
    intent = await store.get("payment_intent", row.hidden["intent"])
    error = charging.action_required("invoice") if said == AUTHENTICATE else charging.declined(said)
    return Reply(402, {"error": error | {"payment_intent": intent.body}})


async def void(row: SandboxObject, moment: Moment) -> None:
    """Nobody has to pay it any more; a balance that was used for it comes back."""
    if row.body["status"] != "open":
        raise Fault("You can only pass in open invoices. This invoice isn't open.")  # without a code: so does the real thing
    customer = await store.get("customer", row.customer)
    used = row.body["ending_balance"] - row.body["starting_balance"]
    if used:
        customer.body["balance"] -= used
        await store.keep(customer)
    row.body |= {"status": "void", "auto_advance": False, "next_payment_attempt": None}
    row.body["status_transitions"]["voided_at"] = moment.at
    row.due_at = None
    await store.keep(row)
    await webhooks.emit("invoice.voided", row, moment)
