"""What state billing moves to, and every move that is forbidden."""

import itertools

import pytest

from billing.dunning import ENDED, RUNNING, Decision, Shown, Standing, decide
from models.organization import BillingState

TRIALING, ACTIVE, PAST_DUE = BillingState.TRIALING, BillingState.ACTIVE, BillingState.PAST_DUE
INCOMPLETE, LOCKED, INACTIVE, EXEMPT = BillingState.INCOMPLETE, BillingState.LOCKED, BillingState.INACTIVE, BillingState.EXEMPT
STATUSES = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled")


def standing(state: BillingState, **more: object) -> Standing:
    held: dict[str, object] = {"subscription_id": "sub_1"}
    if state is LOCKED:
        held["locked_subscription_id"] = "sub_1"
    if state is INCOMPLETE:
        held |= {"subscription_id": "sub_2", "locked_subscription_id": "sub_1", "previous_state": LOCKED}
    return Standing(state, **(held | more))  # type: ignore[arg-type]


def shown(status: str, subscription_id: str = "sub_1", **more: object) -> Shown:
    return Shown(subscription_id, status, **more)  # type: ignore[arg-type]


def moved(now: Standing, seen: Shown | None, max_retries: int = 3) -> Decision:
    return decide(now, seen, max_retries=max_retries)


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        (TRIALING, shown("trialing"), TRIALING),
        (TRIALING, shown("active"), ACTIVE),
        (TRIALING, shown("past_due", failed_attempts=1), PAST_DUE),
        (TRIALING, shown("canceled"), INACTIVE),
        (ACTIVE, shown("past_due", failed_attempts=1), PAST_DUE),
        (PAST_DUE, shown("past_due", failed_attempts=3), PAST_DUE),
        (PAST_DUE, shown("active"), ACTIVE),
        (PAST_DUE, shown("past_due", failed_attempts=4), LOCKED),
        (ACTIVE, shown("past_due", failed_attempts=1, is_last_attempt=True), LOCKED),
        (PAST_DUE, shown("canceled", ended_for_payment=True), LOCKED),
        (PAST_DUE, shown("canceled"), INACTIVE),
        (ACTIVE, shown("canceled"), INACTIVE),
        (ACTIVE, shown("unpaid"), LOCKED),
        (ACTIVE, shown("paused"), LOCKED),
        (LOCKED, shown("active", "sub_2"), ACTIVE),
        (INACTIVE, shown("active", "sub_2"), ACTIVE),
        (LOCKED, shown("incomplete", "sub_2"), LOCKED),
        (INACTIVE, shown("incomplete", "sub_2"), INACTIVE),
        (LOCKED, shown("incomplete", "sub_2", needs_action=True), INCOMPLETE),
        (INACTIVE, shown("incomplete", "sub_2", needs_action=True), INCOMPLETE),
        (INCOMPLETE, shown("incomplete", "sub_2"), INCOMPLETE),
        (INCOMPLETE, shown("active", "sub_2"), ACTIVE),
        (INCOMPLETE, shown("incomplete_expired", "sub_2"), LOCKED),
        (INCOMPLETE, shown("canceled", "sub_2"), LOCKED),
    ],
)
def test_the_state_follows_what_is_shown(before: BillingState, seen: Shown, after: BillingState) -> None:
    assert moved(standing(before), seen).standing.state is after


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_access_stays_for_the_first_attempt_and_three_retries(attempts: int) -> None:
    decision = moved(standing(ACTIVE), shown("past_due", failed_attempts=attempts))

    assert (decision.standing.state, decision.standing.failed_attempts, decision.locks) == (PAST_DUE, attempts, False)


@pytest.mark.parametrize("max_retries", [0, 1, 2, 3, 8])
def test_how_many_retries_there_are_is_one_setting(max_retries: int) -> None:
    last_good = [moved(standing(ACTIVE), shown("past_due", failed_attempts=n), max_retries).standing.state for n in range(1, 11)]

    assert last_good == [PAST_DUE] * max_retries + [LOCKED] * (10 - max_retries)


def test_locking_is_decided_once_however_often_it_is_looked_at() -> None:
    first = moved(standing(PAST_DUE), shown("past_due", failed_attempts=4))
    again = [moved(first.standing, shown(status, failed_attempts=4)) for status in STATUSES]

    assert first.locks
    assert [(each.standing.state, each.locks) for each in again] == [(LOCKED, False)] * len(STATUSES)


def test_locked_never_becomes_inactive_because_our_own_cancel_is_reported_back() -> None:
    for ended_for_payment in (True, False):
        assert moved(standing(LOCKED), shown("canceled", ended_for_payment=ended_for_payment)).standing.state is LOCKED


def test_a_late_success_of_what_was_locked_does_not_bring_it_back() -> None:
    """The retry that was under way as we locked: its subscription is being ended, and its money is the operator's to return."""
    assert moved(standing(LOCKED), shown("active")).standing.state is LOCKED


def test_a_trial_is_left_only_when_the_provider_has_left_it() -> None:
    """The trial's first invoice is paid on day 0: 0 cents."""
    assert moved(standing(TRIALING), shown("trialing")).standing == standing(TRIALING)


def test_a_trial_without_a_usable_card_is_inactive_and_never_locked() -> None:
    decision = moved(standing(TRIALING), shown("canceled", ended_for_payment=True))

    assert (decision.standing.state, decision.locks) == (INACTIVE, False)


def test_nothing_moves_without_a_subscription_or_where_nobody_is_charged() -> None:
    for state in BillingState:
        assert moved(standing(state), None).standing == standing(state)
    for status in STATUSES:
        assert moved(standing(EXEMPT), shown(status, failed_attempts=9)).standing == standing(EXEMPT)


@pytest.mark.parametrize("state", [state for state in BillingState if state is not EXEMPT])
@pytest.mark.parametrize("status", STATUSES)
def test_the_same_facts_lead_to_the_same_state_however_often_and_lock_at_most_once(state: BillingState, status: str) -> None:
    for attempts, last, action, subscription in itertools.product((0, 1, 4), (True, False), (True, False), ("sub_1", "sub_2")):
        seen = shown(status, subscription, failed_attempts=attempts, is_last_attempt=last, needs_action=action)
        first = moved(standing(state), seen)
        second = moved(first.standing, seen)

        assert second == Decision(first.standing, locks=False)
        assert (first.standing.state in ENDED) >= first.locks
        if state in ENDED and first.standing.state in RUNNING:
            assert subscription == "sub_2" or state is INACTIVE
