"""Doors of billing: what a team pays, how, and what it would pay."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

from billing.card_numbers import refuse_card_numbers
from billing.cards import Setup
from errors import ActionRequired
from fleet import scope
from fleet.billing import bills, paying
from fleet.billing.bills import Bill, Preview
from models.billing import BillingPlan, CardSetupFlow, Invoice
from models.global_ids import number_of
from models.organization import Organization
from resolvers.context import Context
from resolvers.paging import Order, Page, Slice, page

Answer = Mapping[str, Any]
Door = Callable[..., Awaitable[Answer]]

LOOK_EVERY_S = 0.5


def without_card_numbers(door: Door) -> Door:
    """The door, before which every text is looked at: a card number goes no further, and into no log."""

    @wraps(door)
    async def guarded(context: Context, **asked: Any) -> Answer:
        refuse_card_numbers((_camel(name), value) for name, value in asked.items())
        return await door(context, **asked)

    return guarded


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


@dataclass(frozen=True, slots=True)
class Line:
    description: str
    amount: int
    quantity: int
    proration: bool


@without_card_numbers
async def create_card_setup(
    context: Context, *, flow: CardSetupFlow, organization: str | None = None, return_url: str | None = None
) -> Answer:
    team = await scope.organization(context.viewer, organization) if organization else None
    return {"setup": await paying.create_card_setup(team, flow=flow, return_url=return_url, house=context.house, by=context.viewer)}


@without_card_numbers
async def update_card(context: Context, *, organization: str, setup_id: str) -> Answer:
    team = await scope.organization(context.viewer, organization)
    number = number_of("CardSetup", setup_id, path=("setupId",))
    paid = await paying.update_card(team, number, house=context.house, by=context.viewer)
    return {"billing": await bills.bill(team, by=context.viewer), "errors": [paid.refusal] if paid.refusal else []}


@without_card_numbers
async def change_plan(context: Context, *, organization: str, plan: BillingPlan) -> Answer:
    team = await scope.organization(context.viewer, organization)
    await paying.change_plan(team, plan, house=context.house, by=context.viewer)
    return {"billing": await bills.bill(team, by=context.viewer)}


@without_card_numbers
async def cancel_subscription(context: Context, *, organization: str, reason: str | None = None) -> Answer:
    team = await scope.organization(context.viewer, organization)
    await paying.cancel(team, reason=reason, house=context.house, by=context.viewer)
    return {"billing": await bills.bill(team, by=context.viewer)}


@without_card_numbers
async def reactivate_subscription(
    context: Context, *, organization: str, setup_id: str | None = None, idempotency_key: str | None = None
) -> Answer:
    team = await scope.organization(context.viewer, organization)
    setup = number_of("CardSetup", setup_id, path=("setupId",)) if setup_id else None
    try:
        await paying.reactivate(team, setup_id=setup, idempotency_key=idempotency_key, house=context.house, by=context.viewer)
    except ActionRequired as asked:
        return {"errors": [asked], "client_secret": asked.client_secret, "hosted_url": asked.hosted_url}
    return {"billing": await bills.bill(team, by=context.viewer)}


@without_card_numbers
async def pay_open_invoice(context: Context, *, organization: str, idempotency_key: str | None = None) -> Answer:
    team = await scope.organization(context.viewer, organization)
    await paying.pay_open_invoice(team, idempotency_key=idempotency_key, house=context.house, by=context.viewer)
    return {"billing": await bills.bill(team, by=context.viewer)}


@without_card_numbers
async def complete_sandbox_card_setup(context: Context, *, setup_id: str, payment_method: str) -> Answer:
    number = number_of("CardSetup", setup_id, path=("setupId",))
    setup = await paying.complete_sandbox_setup(number, payment_method, house=context.house, by=context.viewer)
    return {"setup": Setup(setup.id, setup.expires_at)}


@without_card_numbers
async def advance_sandbox_clock(context: Context, *, organization: str, to: datetime) -> Answer:
    team = await scope.organization(context.viewer, organization)
    await paying.advance_sandbox_clock(team, to, house=context.house, by=context.viewer)
    return {"billing": await bills.bill(team, by=context.viewer)}


# ── reading ──
async def billing(organization: Organization, context: Context) -> Bill:
    return await bills.bill(organization, by=context.viewer)


async def preview(bill: Bill, context: Context, plan: BillingPlan | None, seats: int | None) -> Preview:
    return await bills.preview(bill, plan=plan, seats=seats, house=context.house)


async def upcoming_invoice(bill: Bill, context: Context) -> Preview | None:
    return await bills.upcoming(bill, house=context.house)


async def invoices(bill: Bill, context: Context, first: int | None, after: str | None) -> Page[Invoice]:
    found = bills.invoices(bill)
    order = Order(("created_at", "id"), descending=True)
    return await page(found, Slice.of(first, after), list_name=f"invoices:{bill.organization.id}", order=order)


def lines(invoice: Invoice, context: Context) -> list[Line]:
    return [Line(**line) for line in invoice.lines]


async def billing_changed(context: Context, *, organization: str) -> AsyncGenerator[Bill, None]:
    team = await scope.organization(context.viewer, organization)
    return _changes(await bills.bill(team, by=context.viewer), context)


async def _changes(bill: Bill, context: Context) -> AsyncGenerator[Bill, None]:
    yield bill
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        bill, before = await bills.again(bill), bill
        context.renew(bill.by)
        if bill.version != before.version:
            yield bill
