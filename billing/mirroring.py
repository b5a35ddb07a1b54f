"""Bringing what we hold in line with what the provider shows: fetched in the customer's turn, written in one transaction.

Source: billing, "Webhooks", 5 and 6.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from billing.dunning import Decision, Shown, Standing, decide
from billing.outbox import END, put_down
from billing.shapes import CardShape, InvoiceShape, SubscriptionShape, current, invoice_of
from billing.signatures import Event
from billing.till import Notice, NoticeKind, Till
from models.billing import BillingAccount, BillingPlan, Invoice
from models.organization import BillingState, Organization
from models.sql import execute
from models.transaction import transaction


@dataclass(frozen=True, slots=True)
class Picture:
    """A customer as the provider shows it at one moment."""

    subscription: SubscriptionShape | None
    plan: BillingPlan | None
    invoices: Sequence[InvoiceShape]

    def open_invoice(self) -> InvoiceShape | None:
        """What is due of the current subscription; the newest if there are several."""
        due = [each for each in self.invoices if each.status == "open" and self._is_current(each)]
        return max(due, key=lambda each: each.created_at, default=None)

    def _is_current(self, invoice: InvoiceShape) -> bool:
        return self.subscription is not None and invoice.subscription_id == self.subscription.subscription_id

    def shown(self, *, needs_action: bool) -> Shown | None:
        if self.subscription is None:
            return None
        due = self.open_invoice()
        return Shown(
            subscription_id=self.subscription.subscription_id,
            status=self.subscription.status,
            ended_for_payment=self.subscription.reason == "payment_failed",
            failed_attempts=due.attempts if due else 0,
            is_last_attempt=due is not None and due.next_attempt_at is None,
            needs_action=needs_action,
        )


async def look(account: BillingAccount, till: Till) -> Picture:
    """Fetch a customer. The caller has its turn: a picture taken outside of it may be old when it is written."""
    assert account.customer_id is not None
    found = current(await till.gateway.subscriptions(account.customer_id))
    plan = await till.gateway.plan_of(found.price_id) if found else None
    return Picture(found, plan, await till.gateway.invoices(account.customer_id))


async def refresh(account: BillingAccount, till: Till, *, needs_action: bool = False) -> BillingAccount:
    """Fetch and write, in the customer's turn; the account as it is then."""
    picture = await look(account, till)
    async with transaction():
        return await write(account, picture, till, needs_action=needs_action)


async def write(
    account: BillingAccount, picture: Picture, till: Till, *, event: Event | None = None, needs_action: bool = False
) -> BillingAccount:
    """Inside a transaction: the mirror, the state it leads to, what is promised because of it, and who is told."""
    organization_id = account.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    organization = await Organization.filter(id=organization_id).select_for_update().first()
    held = await BillingAccount.filter(id=account.id).select_for_update().first()
    assert held is not None, "accounts are never deleted"
    if organization is None or held.mode != till.settings.billing:
        return held
    before = BillingState(organization.billing_state)
    shown = picture.shown(needs_action=needs_action or _asks_for_action(event, picture))
    decision = decide(_standing(held, before), shown, max_retries=till.settings.billing_max_retries)
    for invoice in picture.invoices:
        await _keep_invoice(held, invoice)
    await _keep(held, picture, decision)
    await _tell_of_event(organization, held, picture, event, till)
    await _move(organization, held, before, decision, till)
    await _tell_receipts(organization, held, picture, till)
    return held


def _asks_for_action(event: Event | None, picture: Picture) -> bool:
    """Only for an invoice that is still open: a confirmation that has been given meanwhile is not asked for again."""
    due = picture.open_invoice()
    return (
        event is not None
        and event.kind == "invoice.payment_action_required"
        and due is not None
        and event.about.get("id") == due.invoice_id
    )


def _standing(account: BillingAccount, state: BillingState) -> Standing:
    return Standing(
        state=state,
        previous_state=BillingState(account.previous_state) if account.previous_state else None,
        subscription_id=account.subscription_id,
        locked_subscription_id=account.locked_subscription_id,
        failed_attempts=account.failed_attempts,
    )


async def _keep_invoice(account: BillingAccount, shape: InvoiceShape) -> None:
    values: dict[str, Any] = {
        "account_id": account.id,
        "subscription_id": shape.subscription_id,
        "number": shape.number,
        "total": shape.total,
        "amount_due": shape.amount_due,
        "currency": shape.currency,
        "status": shape.status,
        "attempts": shape.attempts,
        "next_attempt_at": shape.next_attempt_at,
        "created_at": shape.created_at,
        "pays_until": shape.pays_until,
        "hosted_url": shape.hosted_url,
        "lines": [{k: v for k, v in asdict(line).items() if k != "period_end"} for line in shape.lines],
    }
    if not await Invoice.filter(invoice_id=shape.invoice_id).update(**values):
        await Invoice.create(invoice_id=shape.invoice_id, **values)


async def _keep(account: BillingAccount, picture: Picture, decision: Decision) -> None:
    standing, found, due = decision.standing, picture.subscription, picture.open_invoice()
    account.previous_state = standing.previous_state
    account.locked_subscription_id = standing.locked_subscription_id
    account.failed_attempts = standing.failed_attempts
    account.next_payment_attempt = due.next_attempt_at if due and standing.state is BillingState.PAST_DUE else None
    if found is not None:
        account.subscription_id = found.subscription_id
        account.item_id = found.item_id
        account.provider_status = found.status
        account.quantity = found.quantity
        account.plan = picture.plan or BillingPlan(account.plan)
        account.trial_ends_at = found.trial_ends_at or account.trial_ends_at
        account.current_period_end = found.period_end
        account.cancel_at = None if found.is_over else found.cancel_at
    account.access_until = _latest(account.access_until, *_paid_for(picture))
    account.version += 1
    await account.save()


def _paid_for(picture: Picture) -> list[datetime | None]:
    """The ends of the periods that have been paid, a trial counting as paid."""
    paid = [each.pays_until for each in picture.invoices if each.status == "paid"]
    found = picture.subscription
    return [*paid, found.trial_ends_at if found and found.status == "trialing" else None]


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


async def _move(organization: Organization, account: BillingAccount, before: BillingState, decision: Decision, till: Till) -> None:
    after = decision.standing.state
    if decision.locks:
        await put_down(END, {"account_id": account.id, "subscription_id": decision.standing.locked_subscription_id})
    if after is before:
        return
    organization.billing_state = after
    await organization.save(update_fields=["billing_state"])
    await till.teller.moved(organization, before, after)
    if before is BillingState.INCOMPLETE:  # back to where it was: that has been told
        return
    if after is BillingState.LOCKED:
        await _tell(organization, Notice(NoticeKind.LOCKED, account.subscription_id or ""), account, till)
    if after is BillingState.INACTIVE:
        kind = NoticeKind.TRIAL_OVER if before is BillingState.TRIALING and account.payment_method_id is None else NoticeKind.ENDED
        await _tell(organization, Notice(kind, account.subscription_id or ""), account, till)


async def _tell_of_event(organization: Organization, account: BillingAccount, picture: Picture, event: Event | None, till: Till) -> None:
    """What only the event knows: the trial's last days, and the number of a failed attempt with the time of the next."""
    if event is None:
        return
    if event.kind == "customer.subscription.trial_will_end" and event.about.get("id") == account.subscription_id:
        ends = Notice(
            NoticeKind.TRIAL_ENDING, account.subscription_id or "", at=account.trial_ends_at, has_card=account.payment_method_id is not None
        )
        await _tell(organization, ends, account, till)
    if event.kind == "invoice.payment_failed":
        await _tell_of_failure(organization, account, picture, event, till)


async def _tell_of_failure(organization: Organization, account: BillingAccount, picture: Picture, event: Event, till: Till) -> None:
    """Not of the first payment of a re-activation: whoever asked for it has the answer already."""
    failed = invoice_of(event.about)
    if failed.attempts == 0 or event.about.get("billing_reason") == "subscription_create":
        return
    now = next((each for each in picture.invoices if each.invoice_id == failed.invoice_id), failed)
    notice = Notice(
        NoticeKind.PAYMENT_FAILED,
        failed.invoice_id,
        attempt=failed.attempts,
        at=failed.next_attempt_at if failed.attempts <= till.settings.billing_max_retries else None,
        amount=failed.amount_due,
        currency=failed.currency,
        number=failed.number,
        hosted_url=failed.hosted_url,
        is_paid=now.status == "paid",
    )
    await _tell(organization, notice, account, till)


async def _tell_receipts(organization: Organization, account: BillingAccount, picture: Picture, till: Till) -> None:
    """Of every paid invoice once, whether its event came or was lost; oldest first."""
    paid = [each for each in picture.invoices if each.status == "paid" and each.amount_due > 0]
    for invoice in sorted(paid, key=lambda each: each.created_at):
        notice = Notice(
            NoticeKind.RECEIPT,
            invoice.invoice_id,
            at=invoice.pays_until,
            amount=invoice.amount_due,
            currency=invoice.currency,
            number=invoice.number,
            hosted_url=invoice.hosted_url,
        )
        await _tell(organization, notice, account, till)


async def _tell(organization: Organization, notice: Notice, account: BillingAccount, till: Till) -> None:
    sql = """INSERT INTO billing_notice (account_id, kind, about, attempt, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (kind, about, attempt) DO NOTHING"""
    if await execute(sql, [account.id, notice.kind.value, notice.about, notice.attempt, datetime.now(UTC)]):
        await till.teller.tell(organization, notice)


def put_card(account: BillingAccount, card: CardShape | None) -> None:
    account.payment_method_id = card.payment_method_id if card else None
    account.card_brand, account.card_last4 = (card.brand, card.last4) if card else (None, None)
    account.card_exp_month, account.card_exp_year = (card.exp_month, card.exp_year) if card else (None, None)
