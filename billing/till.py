"""What billing works with: the gateway, the settings that are terms, and whoever tells people; and one customer's turn."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from billing.stripe_client import StripeGateway
from models.billing import BillingAccount
from models.named_lock import alone
from models.organization import BillingState, Organization
from settings import Settings

if TYPE_CHECKING:
    from billing.sandbox_desk import SandboxDesk


class NoticeKind(StrEnum):
    TRIAL_ENDING = "trial_ending"
    TRIAL_OVER = "trial_over"
    PAYMENT_FAILED = "payment_failed"
    LOCKED = "locked"
    ENDED = "ended"
    RECEIPT = "receipt"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the people who manage an organization's billing. Amounts in cents."""

    kind: NoticeKind
    about: str  # the invoice or subscription: with kind and attempt it is told once
    attempt: int = 0
    at: datetime | None = None  # the trial's end, or when the card is tried again
    amount: int = 0
    currency: str = "usd"
    number: str | None = None
    hosted_url: str | None = None
    is_paid: bool = False  # a failure told late, after the invoice was paid
    has_card: bool = False


class Teller(Protocol):
    """Both are called inside the transaction in which it became so."""

    async def tell(self, organization: Organization, notice: Notice) -> None: ...

    async def moved(self, organization: Organization, before: BillingState, after: BillingState) -> None: ...


@dataclass(frozen=True, slots=True)
class Till:
    """Opened at start-up unless billing is off; one for each event loop, as the gateway is."""

    gateway: StripeGateway
    settings: Settings
    teller: Teller
    webhook_secrets: Sequence[str]
    desk: "SandboxDesk | None" = None  # with BILLING=sandbox


def turn(account: BillingAccount) -> AbstractAsyncContextManager[None]:
    """One at a time for a customer, over all processes: what is fetched inside is still true when it is written.

    Raises LockBusy. Source: billing, "Webhooks", 4.
    """
    return alone(f"billing-account:{account.id}")
