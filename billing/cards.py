"""Cards: setting one up at the provider, and taking it once it has arrived there. Its number never comes near us.

Source: guide, "Updating your credit card"; billing, "Cards without card numbers".
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from billing.mirroring import put_card, refresh
from billing.shapes import CardShape, SetupShape
from billing.stripe_client import GoneAlready
from billing.till import Till
from errors import CallerError, InvalidInput
from models.billing import BillingAccount, CardSetup, CardSetupFlow
from models.organization import BillingState, Organization
from models.transaction import transaction
from settings import Settings

SETUP_TTL = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Setup:
    """A card setup with what whoever holds the card needs, shown to them alone. `pk` is its row."""

    pk: int
    expires_at: datetime
    client_secret: str | None = None
    publishable_key: str | None = None
    hosted_url: str | None = None


async def begin(account: BillingAccount, flow: CardSetupFlow, return_url: str | None, *, till: Till) -> Setup:
    """Ask the provider for a way to give a card. Raises InvalidInput for an address that is not on the list."""
    back = _require_return_url(return_url, till.settings)
    assert account.customer_id is not None
    now = datetime.now(UTC)
    setup = await CardSetup.create(account=account, flow=flow, created_at=now, expires_at=now + SETUP_TTL)
    if flow is CardSetupFlow.ELEMENTS:
        setup.setup_intent_id, secret = await till.gateway.create_setup_intent(account.customer_id, setup_id=setup.id)
        await setup.save(update_fields=["setup_intent_id"])
        return Setup(setup.id, setup.expires_at, secret, till.settings.stripe_publishable_key or None)
    # A minute less than a day: the provider counts from its own clock, and allows no more.
    ends = setup.expires_at - timedelta(minutes=1)
    made = await till.gateway.create_checkout(account.customer_id, setup_id=setup.id, return_url=back, expires_at=ends)
    setup.checkout_session_id, setup.setup_intent_id, url = made
    await setup.save(update_fields=["checkout_session_id", "setup_intent_id"])
    return Setup(setup.id, setup.expires_at, hosted_url=url)


async def arrived(setup: CardSetup, account: BillingAccount, *, till: Till) -> SetupShape:
    """The setup as the provider has it. Raises InvalidInput unless a card came through it, to this customer."""
    if setup.setup_intent_id is None and setup.checkout_session_id is not None:
        setup.setup_intent_id = await till.gateway.checkout_setup_intent(setup.checkout_session_id)
        await setup.save(update_fields=["setup_intent_id"])
    if setup.setup_intent_id is None:
        raise _not_finished()
    try:
        found = await till.gateway.setup_intent(setup.setup_intent_id)
    except GoneAlready:
        raise _not_finished() from None
    if found.status != "succeeded" or found.card is None or found.customer_id != account.customer_id:
        raise _not_finished()
    return found


async def take(setup: CardSetup, account: BillingAccount, card: CardShape, *, till: Till) -> BillingAccount:
    """From now on this card is charged; in the customer's turn. Asked again, or by the webhook after the person, it is the same.

    An older setup whose news comes late does not bring an older card back. What is owed is charged to the new card at once:
    raises CardDeclined if that fails, and the card is kept.
    """
    newer = CardSetup.filter(account_id=account.id, id__gt=setup.id, completed_at__not_isnull=True)
    if await newer.exists():
        return account
    if setup.completed_at is not None:  # the other one came first; under one key the provider answers both alike
        return await _pay_what_is_owed(account, setup, till)
    assert account.customer_id is not None
    before = account.payment_method_id
    await till.gateway.use_card(account.customer_id, card.payment_method_id)
    async with transaction():
        held = await BillingAccount.filter(id=account.id).select_for_update().get()
        put_card(held, card)
        held.version += 1
        await held.save()
        await CardSetup.filter(id=setup.id).update(completed_at=datetime.now(UTC))
    if before is not None and before != card.payment_method_id:
        await till.gateway.forget_card(before)
    return await _pay_what_is_owed(held, setup, till)


async def look_again(account: BillingAccount, *, till: Till) -> None:
    """The card as the provider has it: banks renew cards, and operators take them away. In the customer's turn."""
    assert account.customer_id is not None
    card = await till.gateway.card_on_file(account.customer_id)
    async with transaction():
        held = await BillingAccount.filter(id=account.id).select_for_update().get()
        put_card(held, card)
        held.version += 1
        await held.save()


async def _pay_what_is_owed(account: BillingAccount, setup: CardSetup, till: Till) -> BillingAccount:
    organization_id = account.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    organization = await Organization.filter(id=organization_id).first()
    if organization is None or organization.billing_state != BillingState.PAST_DUE:
        return account
    return await pay_open(account, key=f"card:{setup.id}", till=till)


async def pay_open(account: BillingAccount, *, key: str, till: Till) -> BillingAccount:
    """Charge every open invoice of the current subscription. Raises CardDeclined, after writing down what came of it."""
    assert account.customer_id is not None
    refusal: CallerError | None = None
    for invoice in await till.gateway.invoices(account.customer_id, status="open"):
        if invoice.subscription_id != account.subscription_id:
            continue
        try:
            await till.gateway.pay(invoice.invoice_id, key=f"{key}:{invoice.invoice_id}")
        except GoneAlready:
            continue
        except CallerError as refused:
            refusal = refused
    account = await refresh(account, till)
    if refusal is not None:
        raise refusal
    return account


def _require_return_url(asked: str | None, settings: Settings) -> str:
    """Where a hosted page sends people back to: this server, or what the operator allowed."""
    if asked is None:
        return settings.public_url
    for allowed in (settings.public_url, *settings.billing_return_urls):
        if asked == allowed or (urlsplit(asked)[:2] == urlsplit(allowed)[:2] and asked.startswith(allowed.rstrip("/") + "/")):
            return asked
    raise InvalidInput("returnUrl is not on this server's list, BILLING_RETURN_URLS.", path=("returnUrl",))


def _not_finished() -> InvalidInput:
    return InvalidInput("No card has come through this setup: finish it, or make another with createCardSetup.", path=("setupId",))
