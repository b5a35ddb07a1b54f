"""What the provider tells us, taken once: believed, looked up again in the customer's turn, written with the event's id.

Source: billing, "Webhooks", in its order.
"""

import logging
from datetime import UTC, datetime

from billing import cards
from billing.mirroring import look, write
from billing.signatures import Event
from billing.stripe_client import GoneAlready
from billing.till import Till, turn
from errors import CallerError, InvalidInput, ProviderUnreachable
from models.billing import BillingAccount, BillingEvent, CardSetup
from models.sql import execute
from models.transaction import transaction

log = logging.getLogger(__name__)

# invoice.payment_succeeded is not among them: it doubles invoice.paid.
KINDS = frozenset(
    f"{noun}.{verb}"
    for noun, verbs in {
        "customer.subscription": ("created", "updated", "deleted", "paused", "resumed", "trial_will_end"),
        "invoice": ("finalized", "paid", "payment_failed", "payment_action_required", "voided", "marked_uncollectible"),
        "setup_intent": ("succeeded", "setup_failed"),
        "checkout.session": ("completed", "expired"),
        "payment_method": ("attached", "detached", "updated", "automatically_updated"),
        "customer": ("updated", "deleted"),
        "charge.dispute": ("created",),
    }.items()
    for verb in verbs
)
CARD_KINDS = ("payment_method.detached", "payment_method.updated", "payment_method.automatically_updated", "customer.updated")


async def hear(event: Event, till: Till) -> bool:
    """Let one believed event take effect; False when it has before, or is none of ours.

    Any exception means: nothing was written, have it delivered again.
    """
    account = await _account_of(event, till)
    if account is None or event.kind not in KINDS:
        await _note(event, account, handled=False)
        return False
    async with turn(account):
        if await BillingEvent.filter(event_id=event.event_id).exists():
            return False
        await _take_card(event, account, till)
        try:
            picture = await look(account, till)
        except GoneAlready:  # the operator deleted the customer by hand
            log.warning("Billing account %s has no customer at the provider any more.", account.id)
            await _note(event, account, handled=False)
            return False
        async with transaction():
            if not await _note(event, account, handled=True):
                return False
            await write(account, picture, till, event=event)
    return True


async def _account_of(event: Event, till: Till) -> BillingAccount | None:
    customer_id = event.customer_id
    return await BillingAccount.filter(customer_id=customer_id, mode=till.settings.billing).first() if customer_id else None


async def _note(event: Event, account: BillingAccount | None, *, handled: bool) -> bool:
    """Whether the event is new; its id is what makes it take effect once."""
    if event.kind == "charge.dispute.created":
        log.error("A payment is disputed: see event %s at the payment provider.", event.event_id)
    sql = """INSERT INTO billing_event (event_id, kind, account_id, handled, created_at, received_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (event_id) DO NOTHING"""
    values = [event.event_id, event.kind, account.id if account else None, handled, event.created_at, datetime.now(UTC)]
    return await execute(sql, values) == 1


async def _take_card(event: Event, account: BillingAccount, till: Till) -> None:
    """A card that arrived without its owner coming back to say so, or that was changed at the provider."""
    if event.kind in CARD_KINDS and account.payment_method_id is not None:
        await cards.look_again(account, till=till)
    if event.kind not in ("setup_intent.succeeded", "checkout.session.completed"):
        return
    metadata = event.about.get("metadata")
    number = metadata.get("setup_id") if isinstance(metadata, dict) else None
    if not isinstance(number, str) or not number.isascii() or not number.isdigit() or len(number) > 9:
        return
    setup = await CardSetup.filter(id=int(number), account_id=account.id).first()
    if setup is None:
        return
    try:
        shape = await cards.arrived(setup, account, till=till)
        assert shape.card is not None
        await cards.take(setup, account, shape.card, till=till)
    except ProviderUnreachable:
        raise
    except InvalidInput:
        return  # told too early, or of another setup: its own event comes
    except CallerError as refusal:  # the card is kept; that it does not pay is told by an event of its own
        log.info("A new card of billing account %s did not pay what is owed: %s.", account.id, refusal.code)
