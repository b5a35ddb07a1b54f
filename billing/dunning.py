"""What state billing moves to: what we hold, what the provider shows and what it told us come in, a decision comes out. No I/O.

Source: billing, "States"; guide, "Failed Payments", "Cancelling a subscription", "Re-activate a subscription".
"""

from dataclasses import dataclass, replace

from models.organization import BillingState

# Access and devices aside, the states fall into three kinds.
RUNNING = (BillingState.TRIALING, BillingState.ACTIVE, BillingState.PAST_DUE)
ENDED = (BillingState.LOCKED, BillingState.INACTIVE)

LIVING = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete")  # the provider's words; the rest is over


@dataclass(frozen=True, slots=True)
class Standing:
    """What we hold of an organization."""

    state: BillingState
    previous_state: BillingState | None = None  # where INCOMPLETE goes back to
    subscription_id: str | None = None  # the one our state speaks of
    locked_subscription_id: str | None = None  # the one we ended for want of payment
    failed_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """The current subscription as fetched a moment ago.

    `failed_attempts` and `is_last_attempt` are of its open invoice: how often it was tried, and whether no further try is planned.
    """

    subscription_id: str
    status: str
    ended_for_payment: bool = False  # canceled by the provider's own dunning
    failed_attempts: int = 0
    is_last_attempt: bool = False
    needs_action: bool = False  # the bank wants a confirmation of its first payment


@dataclass(frozen=True, slots=True)
class Decision:
    """The next standing, and whether the subscription is to be ended and its open invoices voided."""

    standing: Standing
    locks: bool = False


def decide(now: Standing, shown: Shown | None, *, max_retries: int) -> Decision:
    """The move from `now`. The same answer however often and in whatever order it is asked for the same facts."""
    if shown is None or now.state is BillingState.EXEMPT:
        return Decision(now)
    if shown.subscription_id == now.locked_subscription_id:
        # Whatever is told of a subscription that we ended is the echo of our own act: LOCKED stays LOCKED.
        return Decision(replace(now, subscription_id=shown.subscription_id))
    match shown.status:
        case "trialing":
            return _runs(now, shown, BillingState.TRIALING)
        case "active":
            return _lock(now, shown) if _is_used_up(shown, max_retries) else _runs(now, shown, BillingState.ACTIVE)
        case "past_due":
            return _lock(now, shown) if _is_used_up(shown, max_retries) else _runs(now, shown, BillingState.PAST_DUE)
        case "unpaid" | "paused":
            return _lock(now, shown)
        case "incomplete":
            return _waits(now, shown)
        case _:
            return _is_over(now, shown)


def _is_used_up(shown: Shown, max_retries: int) -> bool:
    """The first attempt and `max_retries` retries have failed, or the provider will not try again."""
    return shown.failed_attempts > max_retries or (shown.failed_attempts > 0 and shown.is_last_attempt)


def _runs(now: Standing, shown: Shown, state: BillingState) -> Decision:
    attempts = shown.failed_attempts if state is BillingState.PAST_DUE else 0
    return Decision(replace(now, state=state, previous_state=None, subscription_id=shown.subscription_id, failed_attempts=attempts))


def _lock(now: Standing, shown: Shown) -> Decision:
    locked = Standing(
        BillingState.LOCKED,
        subscription_id=shown.subscription_id,
        locked_subscription_id=shown.subscription_id,
        failed_attempts=max(now.failed_attempts, shown.failed_attempts),
    )
    return Decision(locked, locks=True)


def _waits(now: Standing, shown: Shown) -> Decision:
    """A re-activation that is not paid yet: INCOMPLETE only while the bank's confirmation is awaited."""
    if not shown.needs_action or now.state in RUNNING:
        return Decision(now)
    before = now.previous_state if now.state is BillingState.INCOMPLETE else now.state
    return Decision(replace(now, state=BillingState.INCOMPLETE, previous_state=before, subscription_id=shown.subscription_id))


def _is_over(now: Standing, shown: Shown) -> Decision:
    """Canceled or expired: by choice, at a trial's end without a card, or because nobody paid."""
    if now.state is BillingState.INCOMPLETE:
        return Decision(replace(now, state=now.previous_state or BillingState.INACTIVE, previous_state=None))
    if now.state in ENDED:
        return Decision(now)
    if shown.ended_for_payment and now.state is not BillingState.TRIALING:
        return _lock(now, shown)
    over = replace(now, state=BillingState.INACTIVE, previous_state=None, subscription_id=shown.subscription_id, failed_attempts=0)
    return Decision(over)
