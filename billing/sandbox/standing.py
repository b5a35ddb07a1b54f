"""How a subscription stands: when its next thing happens, and what a paid or failed invoice or an end makes of it."""

from copy import deepcopy

from billing.sandbox import store, webhooks
from billing.sandbox.moment import DAY_S, Moment, Rules
from billing.sandbox.proration import Period
from billing.sandbox.wire import Body
from models.sandbox_billing import SandboxObject

WILL_END_S = 3 * DAY_S  # seconds before a trial's end that it is told
OVER = ("canceled", "incomplete_expired")


def period_of(subscription: Body) -> Period:
    item = subscription["items"]["data"][0]
    return Period(item["current_period_start"], item["current_period_end"])


def next_due(row: SandboxObject, rules: Rules) -> int | None:
    """When something happens by itself: the word before a trial's end, the end of a period, the end of patience."""
    body = row.body
    if body["status"] in OVER or body["status"] == "paused":
        return None
    if body["status"] == "incomplete":
        return int(body["created"]) + rules.incomplete_s
    moments = [period_of(body).end]
    if body["cancel_at"]:
        moments.append(body["cancel_at"])
    if body["status"] == "trialing" and not row.hidden.get("told"):
        moments.append(max(body["trial_end"] - WILL_END_S, body["created"]))
    return min(moments)


async def keep(row: SandboxObject, moment: Moment, before: Body | None = None) -> None:
    """Store it with its next due moment, and tell what changed."""
    row.due_at = next_due(row, moment.rules)
    await store.keep(row)
    if before is not None:
        await webhooks.emit("customer.subscription.updated", row, moment, before=before)


async def paid(row: SandboxObject, invoice: Body, moment: Moment) -> None:
    """Only the latest invoice brings a subscription back; a paid trial invoice of 0 cents changes nothing."""
    if row.body["status"] in ("incomplete", "past_due", "unpaid") and row.body["latest_invoice"] == invoice["id"]:
        await become(row, "active", moment)


async def failed(row: SandboxObject, invoice: Body, moment: Moment) -> None:
    """After a failed attempt: late while retries are left, then what the account says."""
    if row.body["status"] in ("incomplete", "trialing", *OVER):
        return
    if invoice["next_payment_attempt"] is not None:
        await become(row, "past_due", moment)
    elif moment.rules.final_action == "cancel":
        await end(row, moment, reason="payment_failed")
    else:
        await become(row, moment.rules.final_action, moment)


async def become(row: SandboxObject, status: str, moment: Moment) -> None:
    if row.body["status"] == status:
        return
    before = deepcopy(row.body)
    row.body["status"] = status
    if status == "paused":
        row.body["status_details"] = {
            "paused": {
                "subscription": {"type": "final_payment_failure"},
                "transitioned_at": moment.at,
                "type": "subscription",
            }
        }
    await keep(row, moment, before)
    if status == "paused":
        await webhooks.emit("customer.subscription.paused", row, moment)


async def end(row: SandboxObject, moment: Moment, *, reason: str | None, status: str = "canceled") -> None:
    """The subscription is over; nothing else of the customer changes."""
    before = deepcopy(row.body)
    row.body |= {"status": status, "ended_at": moment.at}
    row.body["canceled_at"] = row.body["canceled_at"] or moment.at
    row.body["cancellation_details"]["reason"] = row.body["cancellation_details"]["reason"] or reason
    row.due_at = None
    await store.keep(row)
    if status == "canceled":
        await webhooks.emit("customer.subscription.deleted", row, moment)
    else:
        await webhooks.emit("customer.subscription.updated", row, moment, before=before)


async def tell_trial_end(row: SandboxObject, moment: Moment) -> None:
    row.hidden["told"] = True
    await keep(row, moment)
    await webhooks.emit("customer.subscription.trial_will_end", row, moment)
