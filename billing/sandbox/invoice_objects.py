"""New invoices, their lines and their payments in the vendor's form, and the sums of an invoice."""

from datetime import UTC, datetime

from billing.sandbox.objects import CURRENCY
from billing.sandbox.proration import Period
from billing.sandbox.store import fresh_id
from billing.sandbox.wire import Body, nulls, page

SHOWN_LINES = 10
NULL_IN_AN_INVOICE = nulls(
    """
    account_tax_ids application automatically_finalizes_at custom_fields customer_account customer_address customer_phone
    customer_shipping default_payment_method default_source description due_date effective_at ending_balance footer from_invoice
    hosted_invoice_url invoice_pdf last_finalization_error latest_revision next_payment_attempt number on_behalf_of receipt_number
    rendering shipping_cost shipping_details statement_descriptor webhooks_delivered_at
    """
)


def line(item: Body, amount: int, period: Period, description: str, *, quantity: int, proration: bool = False) -> Body:
    """One line about a subscription item; an invoice adopts it by putting its id in."""
    return {
        "id": fresh_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": CURRENCY,
        "description": description,
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": fresh_id("ii") if proration else None,
                "proration": proration,
                "proration_details": {"credited_items": None},
                "subscription": item["subscription"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"end": period.end, "start": period.start},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": item["price"]["id"], "product": item["price"]["product"]},
            "type": "price_details",
            "unit_amount_decimal": item["price"]["unit_amount_decimal"],
        },
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subtotal": amount,
        "taxes": [],
    }


def full_period(item: Body, period: Period, name: str) -> Body:
    price, quantity = item["price"], item["quantity"]
    text = f"{quantity} × {name} (at ${price['unit_amount'] / 100:.2f} / {price['recurring']['interval']})"
    return line(item, price["unit_amount"] * quantity, period, text, quantity=quantity)


def trial_period(item: Body, period: Period, name: str) -> Body:
    return line(item, 0, period, f"Trial period for {name}", quantity=item["quantity"])


def part(item: Body, amount: int, period: Period, name: str, *, kind: str) -> Body:
    """Unused time is a credit, remaining time a debit; one that rounds to 0 cents is a line too."""
    what = name if item["quantity"] == 1 else f"{item['quantity']} × {name}"
    text = f"{kind} time on {what} after {datetime.fromtimestamp(period.start, UTC):%d %b %Y}"
    return line(item, amount, period, text, quantity=item["quantity"], proration=True)


def invoice(subscription: Body, customer: Body, lines: list[Body], *, at: int, reason: str, period: Period, named: str = "") -> Body:
    """A draft with its sums; `period` is the one that has ended, as on the real thing."""
    made = named or fresh_id("in")
    total = sum(each["amount"] for each in lines)
    body: Body = {
        "id": made,
        "object": "invoice",
        **NULL_IN_AN_INVOICE,
        "account_country": "US",
        "account_name": "Billing sandbox",
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None},
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": at,
        "currency": CURRENCY,
        "customer": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "lines": first_lines(made, lines),
        "livemode": False,
        "metadata": {},
        "parent": _parent(subscription),
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": period.end,
        "period_start": period.start,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "status": "draft",
        "status_transitions": nulls("finalized_at marked_uncollectible_at paid_at voided_at"),
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": customer["test_clock"],
        "total": total,
        "total_excluding_tax": total,
    }
    body |= {"total_discount_amounts": [], "total_pretax_credit_amounts": [], "total_taxes": []}
    return body | due(total, customer["balance"])


def _parent(subscription: Body) -> Body:
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {"quote_details": None, "subscription_details": details, "type": "subscription_details"}


def first_lines(invoice: str, lines: list[Body]) -> Body:
    """What an invoice shows of its lines; the rest is to be asked for."""
    shown = [{**each, "invoice": invoice} for each in lines[:SHOWN_LINES]]
    return page(shown, url=f"/v1/invoices/{invoice}/lines", has_more=len(lines) > SHOWN_LINES)


def due(total: int, balance: int) -> Body:
    """What is to be paid: a credit balance (negative) is used first, and a negative total adds to it. Nothing is paid back."""
    amount = max(0, total + balance)
    return {"amount_due": amount, "amount_remaining": amount, "starting_balance": balance}


def ending_balance(total: int, balance: int) -> int:
    return min(0, total + balance)


def invoice_payment(invoice: Body, intent: str) -> Body:
    return {
        "id": fresh_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": invoice["amount_due"],
        "created": invoice["created"],
        "currency": CURRENCY,
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": intent, "type": "payment_intent"},
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }
