"""Cards on their way in: setup intents, payment methods by test name, and hosted pages that do the same with a form."""

from copy import deepcopy

from billing.sandbox import charging, objects, store, webhooks
from billing.sandbox.charging import AUTHENTICATE, CARDS
from billing.sandbox.moment import Moment
from billing.sandbox.wire import Body, Fault, Reply
from models.sandbox_billing import SandboxObject


async def card_of(name: str, customer: str | None, clock: str | None, moment: Moment, *, param: str) -> SandboxObject:
    """A new payment method from a test card's name, or the one of this id. Raises Fault for an unknown one."""
    if name in CARDS:
        return await store.add(objects.payment_method(CARDS[name], None, at=moment.at), customer=None, clock=clock, hidden={"token": name})
    found = await store.get("payment_method", name, param=param)
    if found.customer not in (None, customer):
        raise Fault("The payment method belongs to another customer.", param=param)
    return found


async def attach(card: SandboxObject, customer: SandboxObject, moment: Moment) -> Reply | None:
    """None, or the bank's refusal: some cards are declined here already."""
    said = CARDS[card.hidden["token"]].at_setup
    if said and said != AUTHENTICATE:
        return Reply(402, {"error": charging.declined(said)})
    await adopt(card, customer, moment)
    return None


async def adopt(card: SandboxObject, customer: SandboxObject, moment: Moment) -> None:
    if card.customer == customer.id:
        return
    if card.hidden.get("detached"):
        raise Fault("This PaymentMethod was previously detached from a Customer, and may not be used again.", param="payment_method")
    card.body["customer"] = card.customer = customer.id
    card.clock = customer.clock
    await store.keep(card)
    await webhooks.emit("payment_method.attached", card, moment)


async def detach(card: SandboxObject, moment: Moment) -> None:
    """Its customer pays with it no longer; it can't come back."""
    if card.customer is None:
        raise Fault("The payment method you provided is not attached to a customer so detachment is impossible.", param="payment_method")
    customer = await store.get("customer", card.customer)
    before = deepcopy(card.body)
    card.body["customer"] = None
    card.hidden["detached"] = True
    await store.keep(card)
    settings = customer.body["invoice_settings"]
    if settings["default_payment_method"] == card.id:
        settings["default_payment_method"] = None
        await store.keep(customer)
    await webhooks.emit("payment_method.detached", card, moment, before=before)
    card.customer = None
    await store.keep(card)


async def confirm(intent: SandboxObject, name: str | None, moment: Moment, *, checked: bool = False) -> Reply | None:
    """Set the card up. `checked`: its holder has just passed the bank's check, which only a page can say. None, or the refusal."""
    if intent.body["status"] in ("succeeded", "canceled"):
        raise Fault(f"This SetupIntent is {intent.body['status']} and can't be confirmed.", code="setup_intent_unexpected_state")
    customer = await store.get("customer", intent.customer, param="customer") if intent.customer else None
    wanted = name or intent.body["payment_method"]
    if wanted is None:
        raise Fault(
            "You cannot confirm this SetupIntent because it's missing a payment method.", code="parameter_missing", param="payment_method"
        )
    card = await card_of(wanted, intent.customer, intent.clock, moment, param="payment_method")
    said = CARDS[card.hidden["token"]].at_setup
    if said == AUTHENTICATE and not checked:
        page = f"{moment.rules.page_url}/setup/{intent.id}?key={intent.body['client_secret']}"
        action: Body = {"redirect_to_url": {"return_url": None, "url": page}, "type": "redirect_to_url"}
        intent.body |= {"status": "requires_action", "next_action": action, "payment_method": card.id, "last_setup_error": None}
        await store.keep(intent)
        return None
    if said and said != AUTHENTICATE:
        return await _setup_failed(intent, card, said, moment)
    if customer:
        await adopt(card, customer, moment)
    intent.body |= {"status": "succeeded", "payment_method": card.id, "next_action": None, "last_setup_error": None}
    await store.keep(intent)
    await webhooks.emit("setup_intent.succeeded", intent, moment)
    return None


async def _setup_failed(intent: SandboxObject, card: SandboxObject, said: str, moment: Moment) -> Reply:
    error = charging.declined(said, payment_method=card.body)
    intent.body |= {"status": "requires_payment_method", "payment_method": None, "next_action": None, "last_setup_error": error}
    await store.keep(intent)
    await webhooks.emit("setup_intent.setup_failed", intent, moment)
    return Reply(402, {"error": error | {"setup_intent": intent.body}})


async def complete(session: SandboxObject, name: str, moment: Moment) -> Reply | None:
    """The form of a hosted page was sent: as confirm(), and the session is over when it worked."""
    if session.body["status"] != "open":
        raise Fault(f"This page is {session.body['status']}.")
    intent = await store.get("setup_intent", session.body["setup_intent"])
    refusal = await confirm(intent, name, moment, checked=True)
    if refusal is None:
        session.body |= {"status": "complete", "url": None}
        session.due_at = None
        await store.keep(session)
        await webhooks.emit("checkout.session.completed", session, moment)
    return refusal


async def play(session: SandboxObject, moment: Moment) -> None:
    """Nobody came: it expires."""
    session.body |= {"status": "expired", "url": None}
    session.due_at = None
    await store.keep(session)
    await webhooks.emit("checkout.session.expired", session, moment)
