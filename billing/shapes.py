"""What we read of the provider's objects: plain values out of its JSON, and nothing that we do not use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

Body: TypeAlias = Mapping[str, Any]

OVER = ("canceled", "incomplete_expired")


@dataclass(frozen=True, slots=True)
class CardShape:
    payment_method_id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


@dataclass(frozen=True, slots=True)
class SetupShape:
    """A card on its way: whose it is, and the card once it has arrived. `setup_id` is our own number of it, as text."""

    setup_intent_id: str
    status: str
    customer_id: str | None
    setup_id: str | None
    card: CardShape | None
    decline_code: str | None = None


@dataclass(frozen=True, slots=True)
class LineShape:
    """`amount` in cents, negative for a credit."""

    description: str
    amount: int
    quantity: int
    proration: bool
    period_end: datetime


@dataclass(frozen=True, slots=True)
class InvoiceShape:
    """Amounts in cents. `next_attempt_at` None: nobody will try again by himself."""

    invoice_id: str
    customer_id: str
    subscription_id: str | None
    number: str | None
    total: int
    amount_due: int
    currency: str
    status: str
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    hosted_url: str | None
    lines: tuple[LineShape, ...]
    has_more_lines: bool = False
    client_secret: str | None = None  # of the payment the bank wants confirmed; never stored

    @property
    def pays_until(self) -> datetime | None:
        return max((line.period_end for line in self.lines), default=None)


@dataclass(frozen=True, slots=True)
class SubscriptionShape:
    """`reason` is why it was canceled, in the provider's words."""

    subscription_id: str
    status: str
    created_at: datetime
    item_id: str
    price_id: str
    quantity: int
    period_end: datetime
    trial_ends_at: datetime | None
    cancel_at: datetime | None
    reason: str | None
    organization_id: int | None
    latest_invoice_id: str | None
    client_secret: str | None = None

    @property
    def is_over(self) -> bool:
        return self.status in OVER


def current(subscriptions: Sequence[SubscriptionShape]) -> SubscriptionShape | None:
    """The newest that lives, else the newest: an event's own subscription may long have been followed by another."""
    living = [each for each in subscriptions if not each.is_over]
    return max(living or subscriptions, key=lambda each: (each.created_at, each.subscription_id), default=None)


def moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def subscription_of(body: Body) -> SubscriptionShape:
    item = body["items"]["data"][0]
    details, latest = body.get("cancellation_details") or {}, body.get("latest_invoice")
    number = (body.get("metadata") or {}).get("org_id", "")
    return SubscriptionShape(
        subscription_id=body["id"],
        status=body["status"],
        created_at=_moment(body["created"]),
        item_id=item["id"],
        price_id=item["price"]["id"],
        quantity=item.get("quantity", 1),
        period_end=_moment(item["current_period_end"]),
        trial_ends_at=moment(body.get("trial_end")),
        cancel_at=moment(body.get("cancel_at")),
        reason=details.get("reason"),
        organization_id=int(number) if number.isdigit() else None,
        latest_invoice_id=latest["id"] if isinstance(latest, Mapping) else latest,
        client_secret=_client_secret(latest) if isinstance(latest, Mapping) else None,
    )


def invoice_of(body: Body) -> InvoiceShape:
    lines = body.get("lines") or {"data": []}
    parent = (body.get("parent") or {}).get("subscription_details") or {}
    return InvoiceShape(
        invoice_id=body.get("id") or "preview",  # a preview has none
        customer_id=body["customer"],
        subscription_id=_id_of(parent.get("subscription")),
        number=body.get("number"),
        total=body["total"],
        amount_due=body["amount_due"],
        currency=body["currency"],
        status=body.get("status") or "draft",
        attempts=body.get("attempt_count") or 0,
        next_attempt_at=moment(body.get("next_payment_attempt")),
        created_at=_moment(body["created"]),
        hosted_url=body.get("hosted_invoice_url"),
        lines=tuple(line_of(line) for line in lines["data"]),
        has_more_lines=bool(lines.get("has_more")),
        client_secret=_client_secret(body),
    )


def line_of(body: Body) -> LineShape:
    parent = (body.get("parent") or {}).get("subscription_item_details") or {}
    return LineShape(
        description=body.get("description") or "",
        amount=body["amount"],
        quantity=body.get("quantity") or 1,
        proration=bool(parent.get("proration")),
        period_end=_moment(body["period"]["end"]),
    )


def setup_of(body: Body) -> SetupShape:
    """Of a SetupIntent fetched with its payment method expanded."""
    method, failure = body.get("payment_method"), body.get("last_setup_error") or {}
    return SetupShape(
        setup_intent_id=body["id"],
        status=body["status"],
        customer_id=_id_of(body.get("customer")),
        setup_id=(body.get("metadata") or {}).get("setup_id"),
        card=card_of(method) if isinstance(method, Mapping) and "card" in method else None,
        decline_code=failure.get("decline_code") or failure.get("code"),
    )


def card_of(body: Body) -> CardShape:
    card = body["card"]
    return CardShape(body["id"], card["brand"], card["last4"], card["exp_month"], card["exp_year"])


def _client_secret(invoice: Body) -> str | None:
    secret = invoice.get("confirmation_secret")
    return secret.get("client_secret") if isinstance(secret, Mapping) else None


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _id_of(reference: object) -> str | None:
    return reference["id"] if isinstance(reference, Mapping) else reference if isinstance(reference, str) else None
