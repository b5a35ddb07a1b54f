"""Endpoints about what waits for the next invoice: it is shown, and it can be taken away."""

from billing.sandbox import catalog, clock, store
from billing.sandbox.routes import LIST, Answer, Call, endpoint, listed
from billing.sandbox.wire import Body, missing
from models.sandbox_billing import SandboxObject


@endpoint("get", "/v1/invoiceitems", f"customer pending created {LIST}")
async def list_invoice_items(call: Call) -> Answer:
    """All of them wait: one that is on an invoice is shown there alone."""
    given = call.given
    if given.get("pending") is False:
        return listed(call, [])
    rows = await store.listing("line_item", **({"customer": given["customer"]} if "customer" in given else {}))
    return listed(call, [await _shown(row) for row in rows if catalog.within(row.created, given.get("created"))])


@endpoint("delete", "/v1/invoiceitems/{}")
async def delete_invoice_item(call: Call) -> Answer:
    for row in await store.listing("line_item"):
        if _id_of(row) == call.id:
            await store.forget(row)
            return {"id": call.id, "object": "invoiceitem", "deleted": True}
    raise missing("invoiceitem", call.id)


def _id_of(row: SandboxObject) -> str | None:
    found: str | None = row.body["parent"]["subscription_item_details"]["invoice_item"]
    return found


async def _shown(row: SandboxObject) -> Body:
    line = row.body
    of = line["parent"]["subscription_item_details"]
    own = await store.anything(row.clock) if row.clock else None
    return {
        "id": _id_of(row),
        "object": "invoiceitem",
        "amount": line["amount"],
        "currency": line["currency"],
        "customer": row.customer,
        "customer_account": None,
        "date": row.created,
        "description": line["description"],
        "discountable": line["discountable"],
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "net_amount": line["amount"],
        "parent": {
            "subscription_details": {"subscription": of["subscription"], "subscription_item": of["subscription_item"]},
            "type": "subscription_details",
        },
        "period": line["period"],
        "pricing": line["pricing"],
        "proration": of["proration"],
        "proration_details": {"credited_items": None, "discount_amounts": []},
        "quantity": line["quantity"],
        "quantity_decimal": line["quantity_decimal"],
        "tax_rates": [],
        "test_clock": row.clock if own is not None and own.type == clock.TEST_CLOCK else None,
    }
