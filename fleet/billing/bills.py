"""What a team reads of its billing: state, plan, seats, card, invoices, and what would be charged.

Source: guide, "Managing your subscription": the billing page.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from tortoise.queryset import QuerySet

from auth.credentials import viewer_again
from auth.viewer import Viewer
from billing.dunning import RUNNING
from billing.seats import count_seats
from billing.shapes import CardShape, InvoiceShape, LineShape
from billing.stripe_client import CURRENCY, UNIT_AMOUNTS, GoneAlready
from billing.subscribing import account_of
from errors import InvalidInput, NotFound
from fleet import scope
from fleet.house import House
from models.billing import BillingAccount, BillingPlan, Invoice
from models.organization import BillingState, Organization

SEATS_MAX = 100_000  # that a preview may ask about


@dataclass(frozen=True, slots=True)
class Bill:
    """An organization's billing at one moment, and who looked at it. Amounts in cents."""

    organization: Organization
    account: BillingAccount | None
    seats: int
    by: Viewer

    @property
    def state(self) -> BillingState:
        return BillingState(self.organization.billing_state)

    @property
    def mode(self) -> str:
        return self.account.mode.upper() if self.account else "OFF"

    @property
    def plan(self) -> BillingPlan:
        return BillingPlan(self.account.plan) if self.account else BillingPlan.TEAM_MONTHLY

    @property
    def unit_amount(self) -> int:
        return UNIT_AMOUNTS[self.plan]

    @property
    def currency(self) -> str:
        return CURRENCY

    @property
    def trial_ends_at(self) -> datetime | None:
        return self.account.trial_ends_at if self.account else None

    @property
    def current_period_end(self) -> datetime | None:
        return self.account.current_period_end if self.account else None

    @property
    def cancel_at(self) -> datetime | None:
        return self.account.cancel_at if self.account else None

    @property
    def access_until(self) -> datetime | None:
        return self.account.access_until if self.account else None

    @property
    def failed_attempts(self) -> int:
        return self.account.failed_attempts if self.account else 0

    @property
    def next_payment_attempt(self) -> datetime | None:
        return self.account.next_payment_attempt if self.account else None

    @property
    def card(self) -> CardShape | None:
        held = self.account
        if held is None or held.payment_method_id is None:
            return None
        return CardShape(
            held.payment_method_id, held.card_brand or "", held.card_last4 or "", held.card_exp_month or 0, held.card_exp_year or 0
        )

    @property
    def version(self) -> tuple[int, str, int]:
        """Changes with whatever is shown."""
        return self.account.version if self.account else 0, self.state.value, self.seats


@dataclass(frozen=True, slots=True)
class Preview:
    """An invoice that is not made yet."""

    total: int
    currency: str
    due_at: datetime | None
    lines: tuple[LineShape, ...]

    @classmethod
    def of(cls, shape: InvoiceShape) -> "Preview":
        return cls(shape.total, shape.currency, shape.next_attempt_at or shape.created_at, shape.lines)


async def bill(organization: Organization, *, by: Viewer) -> Bill:
    """Open also while the team has no access: it is how it comes back. Raises Forbidden below ADMIN."""
    by.must("billing.read", organization.id)
    fresh = await Organization.get(id=organization.id)
    return Bill(fresh, await account_of(fresh), await count_seats(fresh.id), by)


async def again(seen: Bill) -> Bill:
    """The same for whoever follows it. Raises what ends a stream: Unauthenticated, NotFound, Forbidden."""
    by = await viewer_again(seen.by, now=datetime.now(UTC))
    return await bill(await scope.organization_by_id(by, seen.organization.id), by=by)


async def preview(bill: Bill, *, plan: BillingPlan | None, seats: int | None, house: House) -> Preview:
    """The next invoice, to the cent, if plan and number of seats were changed to these now; left out, they stay.

    Raises InvalidInput for a number of seats nobody can have.
    """
    if seats is not None and not 1 <= seats <= SEATS_MAX:
        raise InvalidInput(f"seats is from 1 to {SEATS_MAX}.", path=("seats",))
    account = bill.account
    if account is None or account.customer_id is None or house.till is None:
        return Preview(0, CURRENCY, None, ())
    running = bill.state in RUNNING
    shape = await house.till.gateway.preview(
        account.customer_id,
        subscription_id=account.subscription_id if running else None,
        item_id=account.item_id if running else None,
        plan=plan or bill.plan,
        seats=seats or bill.seats,
    )
    return Preview.of(shape)


async def upcoming(bill: Bill, *, house: House) -> Preview | None:
    """The next invoice as things stand; None when nothing will be charged."""
    if bill.state not in RUNNING or bill.cancel_at is not None:
        return None
    try:
        return await preview(bill, plan=None, seats=None, house=house)
    except GoneAlready:
        return None


def invoices(bill: Bill) -> QuerySet[Invoice]:
    return Invoice.filter(account_id=bill.account.id if bill.account else 0)


async def invoice(id: int, *, by: Viewer) -> Invoice:
    """An invoice of one of the viewer's organizations. Raises NotFound, Forbidden below ADMIN."""
    found = await Invoice.filter(id=id, account__organization__in=scope.organizations(by)).select_related("account").first()
    if found is None:
        raise NotFound("There is no such invoice for you.")
    by.must("billing.read", found.account.organization_id)
    return found
