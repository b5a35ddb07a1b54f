"""The one gateway to the payment provider, over its own SDK: our calls in, plain values out. The sandbox is the same gateway elsewhere.

Source: billing, "Guide rule -> Stripe calls" and "SDK pitfalls"; the pinned API version is the SDK's own.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, cast

import httpx
import stripe
from starlette.types import ASGIApp

from billing.shapes import (
    CardShape,
    InvoiceShape,
    LineShape,
    SetupShape,
    SubscriptionShape,
    card_of,
    invoice_of,
    line_of,
    setup_of,
    subscription_of,
)
from errors import ActionRequired, CardDeclined, CardRequired, ProviderUnreachable
from models.billing import BillingPlan

TIMEOUT_S = 10.0
RETRIES = 2  # of one call, under the same idempotency key; a client that does not say so makes none
TRY_AGAIN_S = 30.0  # what we tell a caller while the provider is away

PRODUCT_NAME = "Team Plan"
CURRENCY = "usd"
UNIT_AMOUNTS: Mapping[BillingPlan, int] = {BillingPlan.TEAM_MONTHLY: 4900, BillingPlan.TEAM_ANNUAL: 58800}  # cents a seat
_INTERVALS = {BillingPlan.TEAM_MONTHLY: "month", BillingPlan.TEAM_ANNUAL: "year"}

NEEDS_ACTION = ("invoice_payment_intent_requires_action", "subscription_payment_intent_requires_action", "authentication_required")

stripe.enable_telemetry = False  # it would send the kernel's name and leave an id in the user's folder
logging.getLogger("stripe").setLevel(logging.WARNING)  # below that it writes down whole answers, client secrets among them


class GoneAlready(Exception):
    """What was to be changed is over or does not exist: for acts that only want it to be so."""


class StripeGateway:
    """One for each event loop, opened at start-up and closed with `close()`.

    `app` and `base_url` lead the SDK to the sandbox in this process instead of the provider.
    Every method raises ProviderUnreachable when there is no usable answer, and CardDeclined where a card is charged or attached.
    """

    def __init__(self, api_key: str, *, app: ASGIApp | None = None, base_url: str = "http://stripe.invalid") -> None:
        http: Any = stripe.HTTPXClient(timeout=TIMEOUT_S)
        if app is not None:
            http._client_async = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base_url)
        self._http = http
        addresses: Any = {"api": base_url} if app is not None else None
        client = stripe.StripeClient(api_key, http_client=http, max_network_retries=RETRIES, base_addresses=addresses)
        self._stripe = cast(Any, client.v1)  # its parameter types are checked by the sandbox on every call
        self._prices: dict[BillingPlan, str] = {}

    async def close(self) -> None:
        await self._http.close_async()

    # ── prices ──
    async def prices(self) -> Mapping[BillingPlan, str]:
        """The price of each plan, found by its lookup key; what is missing is made."""
        if len(self._prices) < len(BillingPlan):
            keys = {plan.value.lower(): plan for plan in BillingPlan}
            with _told():
                found = await self._stripe.prices.list_async({"lookup_keys": list(keys), "active": True, "limit": 10})
                self._prices = {keys[price["lookup_key"]]: price["id"] for price in found.data}
            for plan in BillingPlan:
                if plan not in self._prices:
                    self._prices[plan] = await self._make_price(plan)
        return self._prices

    async def _make_price(self, plan: BillingPlan) -> str:
        with _told():
            product = await self._stripe.products.create_async({"name": PRODUCT_NAME}, {"idempotency_key": "product:team"})
        asked = {
            "product": product["id"],
            "unit_amount": UNIT_AMOUNTS[plan],
            "currency": CURRENCY,
            "recurring": {"interval": _INTERVALS[plan]},
            "lookup_key": plan.value.lower(),
            "transfer_lookup_key": True,
        }
        with _told():
            price = await self._stripe.prices.create_async(asked, {"idempotency_key": f"price:{plan.value.lower()}:{UNIT_AMOUNTS[plan]}"})
        return str(price["id"])

    async def plan_of(self, price_id: str) -> BillingPlan | None:
        return next((plan for plan, price in (await self.prices()).items() if price == price_id), None)

    # ── customers and cards ──
    async def create_customer(self, email: str, *, user_id: int, key: str) -> str:
        with _told():
            customer = await self._stripe.customers.create_async(
                {"email": email, "metadata": {"user_id": str(user_id)}}, {"idempotency_key": key}
            )
        return str(customer["id"])

    async def create_setup_intent(self, customer_id: str, *, setup_id: int) -> tuple[str, str]:
        """Its id and its client secret, which is for the card's owner alone."""
        asked = {
            "customer": customer_id,
            "usage": "off_session",
            "allowed_payment_method_types": ["card"],
            "metadata": {"setup_id": str(setup_id)},
        }
        with _told():
            intent = await self._stripe.setup_intents.create_async(asked, {"idempotency_key": f"setup:{setup_id}"})
        return str(intent["id"]), str(intent["client_secret"])

    async def create_checkout(
        self, customer_id: str, *, setup_id: int, return_url: str, expires_at: datetime
    ) -> tuple[str, str | None, str]:
        """A hosted page that takes a card: its session, its SetupIntent (None until somebody opens it), its address."""
        asked = {
            "mode": "setup",
            "customer": customer_id,
            "currency": CURRENCY,
            "success_url": return_url,
            "cancel_url": return_url,
            "expires_at": int(expires_at.timestamp()),
            "metadata": {"setup_id": str(setup_id)},
            "setup_intent_data": {"metadata": {"setup_id": str(setup_id)}},
        }
        with _told():
            session = await self._stripe.checkout.sessions.create_async(asked, {"idempotency_key": f"checkout:{setup_id}"})
        return str(session["id"]), session["setup_intent"], str(session["url"])

    async def checkout_setup_intent(self, session_id: str) -> str | None:
        with _told():
            session = await self._stripe.checkout.sessions.retrieve_async(session_id)
        return cast(str | None, session["setup_intent"])

    async def setup_intent(self, setup_intent_id: str) -> SetupShape:
        with _told():
            found = await self._stripe.setup_intents.retrieve_async(setup_intent_id, {"expand": ["payment_method"]})
        return setup_of(found.to_dict())

    async def use_card(self, customer_id: str, payment_method_id: str) -> None:
        """Every later invoice is charged to it: it is the customer's default, and never the subscription's own."""
        with _told():
            await self._stripe.customers.update_async(customer_id, {"invoice_settings": {"default_payment_method": payment_method_id}})

    async def card_on_file(self, customer_id: str) -> CardShape | None:
        """What is charged; None without one."""
        with _told():
            found = await self._stripe.customers.retrieve_async(customer_id, {"expand": ["invoice_settings.default_payment_method"]})
        method = (found.to_dict().get("invoice_settings") or {}).get("default_payment_method")
        return card_of(method) if method else None

    async def forget_card(self, payment_method_id: str) -> None:
        """Detach an old card; nothing happens where it is detached already."""
        try:
            with _told():
                await self._stripe.payment_methods.detach_async(payment_method_id)
        except GoneAlready:
            return

    # ── subscriptions ──
    async def start_trial(self, customer_id: str, plan: BillingPlan, *, organization_id: int, days: int) -> SubscriptionShape:
        asked: dict[str, Any] = {
            "customer": customer_id,
            "items": [{"price": (await self.prices())[plan], "quantity": 1}],
            "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}},
            "payment_behavior": "default_incomplete",
            "off_session": True,
            "billing_mode": {"type": "flexible"},
            "metadata": {"org_id": str(organization_id)},
        }
        if days:
            asked["trial_period_days"] = days
        with _told():
            made = await self._stripe.subscriptions.create_async(asked, {"idempotency_key": f"trial:{organization_id}"})
        return subscription_of(made.to_dict())

    async def subscribe_again(
        self, customer_id: str, plan: BillingPlan, seats: int, *, organization_id: int, key: str
    ) -> SubscriptionShape:
        """A new subscription whose first invoice waits to be paid; `client_secret` confirms that payment."""
        asked = {
            "customer": customer_id,
            "items": [{"price": (await self.prices())[plan], "quantity": seats}],
            "payment_behavior": "default_incomplete",
            "billing_mode": {"type": "flexible"},
            "metadata": {"org_id": str(organization_id)},
            "expand": ["latest_invoice.confirmation_secret"],
        }
        with _told():
            made = await self._stripe.subscriptions.create_async(asked, {"idempotency_key": key})
        return subscription_of(made.to_dict())

    async def subscriptions(self, customer_id: str) -> list[SubscriptionShape]:
        with _told():
            found = await self._stripe.subscriptions.list_async({"customer": customer_id, "status": "all", "limit": 100})
        return [subscription_of(each.to_dict()) for each in found.data]

    async def set_seats(self, subscription_id: str, item_id: str, seats: int, *, key: str) -> SubscriptionShape:
        asked = {"items": [{"id": item_id, "quantity": seats}], "proration_behavior": "create_prorations"}
        return await self._update(subscription_id, asked, key)

    async def set_plan(self, subscription_id: str, item_id: str, plan: BillingPlan, seats: int, *, key: str) -> SubscriptionShape:
        """The number of seats is said again: with a new price and no quantity the provider takes 1."""
        item = {"id": item_id, "price": (await self.prices())[plan], "quantity": seats}
        return await self._update(subscription_id, {"items": [item], "proration_behavior": "create_prorations"}, key)

    async def end_at_period_end(self, subscription_id: str, *, reason: str | None) -> SubscriptionShape:
        asked: dict[str, Any] = {"cancel_at_period_end": True}
        if reason:
            asked["cancellation_details"] = {"comment": reason}
        return await self._update(subscription_id, asked, None)

    async def go_on(self, subscription_id: str) -> SubscriptionShape:
        return await self._update(subscription_id, {"cancel_at_period_end": False}, None)

    async def end_now(self, subscription_id: str) -> None:
        """Neither prorated nor invoiced: what is pending vanishes instead of landing on the next subscription's first bill."""
        try:
            with _told():
                await self._stripe.subscriptions.cancel_async(subscription_id, {"prorate": False, "invoice_now": False})
        except GoneAlready:
            return

    async def _update(self, subscription_id: str, asked: Mapping[str, Any], key: str | None) -> SubscriptionShape:
        with _told():
            changed = await self._stripe.subscriptions.update_async(subscription_id, dict(asked), {"idempotency_key": key} if key else None)
        return subscription_of(changed.to_dict())

    # ── invoices ──
    async def invoices(self, customer_id: str, *, status: str | None = None) -> list[InvoiceShape]:
        """The newest hundred, newest first."""
        asked: dict[str, Any] = {"customer": customer_id, "limit": 100}
        if status:
            asked["status"] = status
        with _told():
            found = await self._stripe.invoices.list_async(asked)
        return [await self._with_all_lines(invoice_of(each.to_dict())) for each in found.data]

    async def invoice(self, invoice_id: str) -> InvoiceShape:
        with _told():
            found = await self._stripe.invoices.retrieve_async(invoice_id, {"expand": ["confirmation_secret"]})
        return await self._with_all_lines(invoice_of(found.to_dict()))

    async def pay(self, invoice_id: str, *, key: str) -> InvoiceShape:
        """Raises CardDeclined, CardRequired; GoneAlready when there is nothing left to pay."""
        with _told():
            paid = await self._stripe.invoices.pay_async(invoice_id, {"off_session": False}, {"idempotency_key": key})
        return invoice_of(paid.to_dict())

    async def void(self, invoice_id: str) -> None:
        try:
            with _told():
                await self._stripe.invoices.void_invoice_async(invoice_id)
        except GoneAlready:
            return

    async def forget_pending(self, customer_id: str, subscription_id: str) -> None:
        """What a subscription's changes left for its next invoice, where there will be none: nobody is to find it on another."""
        with _told():
            found = await self._stripe.invoice_items.list_async({"customer": customer_id, "pending": True, "limit": 100})
        for item in [each.to_dict() async for each in found.auto_paging_iter()]:
            if item["proration"] and _subscription_in(item) == subscription_id:
                with suppress(GoneAlready), _told():
                    await self._stripe.invoice_items.delete_async(item["id"])

    async def preview(
        self, customer_id: str, *, subscription_id: str | None, item_id: str | None, plan: BillingPlan | None, seats: int | None
    ) -> InvoiceShape:
        """The invoice that would come next; with plan and seats, if these were changed at this moment."""
        asked: dict[str, Any] = {"customer": customer_id}
        if subscription_id:
            asked["subscription"] = subscription_id
        if plan is not None and seats is not None:
            item: dict[str, Any] = {"price": (await self.prices())[plan], "quantity": seats}
            details: dict[str, Any] = {"items": [item | ({"id": item_id} if item_id else {})]}
            if subscription_id:
                details["proration_behavior"] = "create_prorations"
            asked["subscription_details"] = details
        with _told():
            shown = await self._stripe.invoices.create_preview_async(asked)
        return invoice_of(shown.to_dict())

    async def _with_all_lines(self, invoice: InvoiceShape) -> InvoiceShape:
        if not invoice.has_more_lines:
            return invoice
        with _told():
            found = await self._stripe.invoices.line_items.list_async(invoice.invoice_id, {"limit": 100})
            lines: Sequence[LineShape] = [line_of(line.to_dict()) async for line in found.auto_paging_iter()]
        return InvoiceShape(**{name: getattr(invoice, name) for name in invoice.__slots__} | {"lines": tuple(lines)})

    # ── events ──
    async def events(self, *, since: datetime) -> AsyncIterator[Mapping[str, Any]]:
        """What the provider would have told since then, newest first."""
        with _told():
            found = await self._stripe.events.list_async({"created": {"gte": int(since.timestamp())}, "limit": 100})
            async for event in found.auto_paging_iter():
                yield event.to_dict()

    # ── the sandbox's and a test account's own ──
    async def attach_card(self, setup_intent_id: str, payment_method: str) -> SetupShape:
        """Give a setup one of the provider's test cards, by its name. Raises CardDeclined."""
        asked = {"payment_method": payment_method, "expand": ["payment_method"], "return_url": "https://flotilla.invalid/"}
        with _told():
            confirmed = await self._stripe.setup_intents.confirm_async(setup_intent_id, asked)
        return setup_of(confirmed.to_dict())


@contextmanager
def _told() -> Iterator[None]:
    """The SDK's errors as ours. Its messages may quote what was sent, so none of them goes on."""
    try:
        yield
    except stripe.CardError as refused:
        raise _card_refusal(refused) from None
    except stripe.InvalidRequestError as refused:
        if refused.code in NEEDS_ACTION:
            raise _action_required() from None
        if refused.code in ("resource_missing", "invoice_not_open", "invoice_already_paid", "payment_method_not_attached"):
            raise GoneAlready(refused.code) from None
        if refused.code in ("invoice_no_payment_method", "missing_payment_method", "invoice_no_customer_default_payment_method"):
            raise CardRequired("Give a card first: createCardSetup, then updateCard.") from None
        raise
    except (stripe.APIConnectionError, stripe.APIError, stripe.RateLimitError, stripe.IdempotencyError) as failure:
        sentence = "The payment provider does not answer; nothing was changed. Try again later."
        raise ProviderUnreachable(sentence, retry_after=TRY_AGAIN_S) from failure


def _subscription_in(item: Mapping[str, Any]) -> str | None:
    details = (item.get("parent") or {}).get("subscription_details") or {}
    return cast(str | None, details.get("subscription"))


def _card_refusal(refused: stripe.CardError) -> CardDeclined | ActionRequired:
    reason = _word(refused, "decline_code") or refused.code
    if refused.code in NEEDS_ACTION or reason in NEEDS_ACTION:
        return _action_required()
    return CardDeclined("The card was declined: use another one, or ask your bank.", reason=reason)


def _action_required() -> ActionRequired:
    return ActionRequired("The bank wants the card's owner to confirm this payment.")


def _word(refused: stripe.CardError, name: str) -> str | None:
    body = refused.json_body if isinstance(refused.json_body, dict) else {}
    error = body.get("error")
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None
