"""What a change of seats or plan does to a subscription: pure, so that a preview and the later invoice cannot differ."""

from copy import deepcopy
from dataclasses import dataclass, field

from billing.sandbox import invoice_objects, objects
from billing.sandbox.proration import Period, Seats, period_after, remaining, unused
from billing.sandbox.standing import period_of
from billing.sandbox.wire import Body


@dataclass
class Change:
    """The subscription as it becomes, the lines that wait for an invoice, and those that are billed at once."""

    body: Body
    pending: list[Body] = field(default_factory=list)
    now: list[Body] = field(default_factory=list)


def change(before: Body, price: Body, quantity: int, names: dict[str, str], *, at: int, prorated_at: int, behavior: str) -> Change:
    """`names`: product id → name, for the lines. `behavior`: none | create_prorations | always_invoice.

    Another interval is billed at once: the rest of the old period comes back, a whole new one begins and is charged.
    """
    made = Change(deepcopy(before))
    old, item = before["items"]["data"][0], made.body["items"]["data"][0]
    item |= {"price": price, "plan": objects.plan(price), "quantity": quantity}
    if before["status"] not in ("active", "past_due", "unpaid"):
        return made
    name_before, name = names[old["price"]["product"]], names[price["product"]]
    if _interval(old) != _interval(item):
        _begin_again(made, at)
        made.now = [*_credit(old, before, name_before, prorated_at, behavior), _full(made.body, name)]
        return made
    if seats(old) != seats(item) and behavior != "none":
        lines = [*_credit(old, before, name_before, prorated_at, behavior), *_debit(item, before, name, prorated_at)]
        made.pending, made.now = ([], lines) if behavior == "always_invoice" else (lines, [])
    return made


def seats(item: Body) -> Seats:
    return Seats(item["price"]["unit_amount"], item["quantity"])


def _interval(item: Body) -> tuple[str, int]:
    recurring = item["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


def _begin_again(made: Change, at: int) -> None:
    item = made.body["items"]["data"][0]
    period = period_after(at, at, *_interval(item))
    item |= {"current_period_start": period.start, "current_period_end": period.end}
    made.body["billing_cycle_anchor"] = at
    if made.body["cancel_at_period_end"]:
        made.body["cancel_at"] = period.end


def _credit(old: Body, subscription: Body, name: str, at: int, behavior: str) -> list[Body]:
    period = period_of(subscription)
    if behavior == "none" or not period.left_at(at):
        return []
    return [invoice_objects.part(old, unused(seats(old), period, at), Period(at, period.end), name, kind="Unused")]


def _debit(item: Body, subscription: Body, name: str, at: int) -> list[Body]:
    period = period_of(subscription)
    if not period.left_at(at):
        return []
    return [invoice_objects.part(item, remaining(seats(item), period, at), Period(at, period.end), name, kind="Remaining")]


def _full(subscription: Body, name: str) -> Body:
    return invoice_objects.full_period(subscription["items"]["data"][0], period_of(subscription), name)


def first_lines(subscription: Body, names: dict[str, str]) -> list[Body]:
    """Of the invoice a subscription begins with: its trial for nothing, or its first period."""
    item = subscription["items"]["data"][0]
    name = names[item["price"]["product"]]
    if subscription["status"] == "trialing":
        return [invoice_objects.trial_period(item, period_of(subscription), name)]
    return [_full(subscription, name)]


def roll(subscription: Body) -> Period:
    """The next period begins where this one ends; returns the one that has ended."""
    item = subscription["items"]["data"][0]
    ended = period_of(subscription)
    period = period_after(subscription["billing_cycle_anchor"], ended.end, *_interval(item))
    item |= {"current_period_start": period.start, "current_period_end": period.end}
    return ended


def renewal_lines(subscription: Body, pending: list[Body], names: dict[str, str]) -> list[Body]:
    """Of the invoice for the period that has just begun: what waited, then the period."""
    return [*pending, _full(subscription, names[subscription["items"]["data"][0]["price"]["product"]])]
