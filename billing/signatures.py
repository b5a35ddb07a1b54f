"""Whether a webhook delivery is the provider's: the signature over its raw bytes, and the few things an event must have.

The SDK's own check is not used: it answers JSON lists, deep nesting and legitimate nulls with exceptions of every kind, and takes any
stamp of the future. Source: billing, "Webhooks" and "SDK pitfalls", rows 4 and 5.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeGuard

BODY_MAX_BYTES = 1_000_000
TOLERANCE = timedelta(seconds=300)  # both ways: a stamp of the future is no better than one of the past
SIGNATURES_MAX = 16  # in one header


class WebhookRefused(Exception):
    """Not signed by the provider, too old, or no event. The message goes to whoever sent it and repeats nothing of theirs."""


@dataclass(frozen=True, slots=True)
class Event:
    """One delivery, believed. `about` is the object it speaks of, as it was when the event was made."""

    event_id: str
    kind: str
    created_at: datetime
    about: Mapping[str, Any]
    before: Mapping[str, Any] = field(default_factory=dict)  # the fields that changed, as they were

    @property
    def customer_id(self) -> str | None:
        """Whose it is: the object's customer, or the object itself where it is one; of a card that was taken away, whose it was."""
        customer = self.about.get("id") if self.about.get("object") == "customer" else self.about.get("customer")
        customer = customer or self.before.get("customer")
        if isinstance(customer, Mapping):
            customer = customer.get("id")
        return customer if _is_word(customer, 64) else None


def read_delivery(body: bytes, header: bytes, *, secrets: Sequence[str], now: datetime) -> Event:
    """The event in a delivery. Raises WebhookRefused, and nothing else, for whatever a stranger can send."""
    if len(body) > BODY_MAX_BYTES:
        raise WebhookRefused("The body is too large.")
    _verify(body, header, secrets, now)
    return event_of(_parsed(body))


def event_of(parsed: object) -> Event:
    """Raises WebhookRefused for what is no event."""
    if not isinstance(parsed, dict) or parsed.get("object") != "event":
        raise WebhookRefused("This is no event.")
    event_id, kind, created, data = parsed.get("id"), parsed.get("type"), parsed.get("created"), parsed.get("data")
    about = data.get("object") if isinstance(data, dict) else None
    if not _is_word(event_id, 255) or not _is_word(kind, 80) or not isinstance(about, dict):
        raise WebhookRefused("This event lacks its id, its type or its object.")
    before = data.get("previous_attributes") if isinstance(data, dict) else None
    return Event(event_id, kind, _moment(created), about, before if isinstance(before, dict) else {})


def _verify(body: bytes, header: bytes, secrets: Sequence[str], now: datetime) -> None:
    stamp, signatures = _parts(header)
    age = now.timestamp() - stamp
    if abs(age) > TOLERANCE.total_seconds():
        raise WebhookRefused("The signature's stamp is more than five minutes away from now.")
    signed = str(stamp).encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
    if not any(hmac.compare_digest(mine, theirs) for mine in expected for theirs in signatures):
        raise WebhookRefused("The signature is not that of any secret of ours.")


def _parts(header: bytes) -> tuple[int, list[str]]:
    """t=…,v1=…,v1=…: the stamp in seconds, and the signatures of the one scheme we know."""
    try:
        pairs = [part.partition("=")[::2] for part in header.decode("ascii").split(",")]
    except UnicodeDecodeError:
        raise WebhookRefused("The signature header is not ASCII.") from None
    stamps = [value.strip() for name, value in pairs if name.strip() == "t"]
    signatures = [value.strip() for name, value in pairs if name.strip() == "v1"][:SIGNATURES_MAX]
    if len(stamps) != 1 or not stamps[0].isdecimal() or len(stamps[0]) > 12 or not signatures:
        raise WebhookRefused("The signature header is not of the form t=…,v1=….")
    return int(stamps[0]), signatures


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # also UnicodeDecodeError
        raise WebhookRefused("The body is not JSON.") from None


def _is_word(value: object, longest: int) -> TypeGuard[str]:
    """What the provider calls things, and what our tables can hold."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.isascii() and value.isprintable()


def _moment(created: object) -> datetime:
    if isinstance(created, bool) or not isinstance(created, int) or not 0 <= created < 10**11:
        return datetime.fromtimestamp(0, UTC)
    return datetime.fromtimestamp(created, UTC)
