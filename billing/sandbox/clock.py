"""Time: the clock on the wall, test clocks that stand still, clocks that run ahead; and what falls due on each, played in order."""

from dataclasses import dataclass

from billing.sandbox import invoicing, sessions, store, subscriptions, webhooks
from billing.sandbox.moment import DAY_S, Moment, Rules
from billing.sandbox.wire import Body, Fault
from models.sandbox_billing import SandboxObject

TEST_CLOCK = "test_helpers.test_clock"
AHEAD = "sandbox.clock"  # ours: the wall's, and so many seconds more
PLAYS = {"subscription": subscriptions.play, "invoice": invoicing.play, "checkout.session": sessions.play}
STOPPED_S = 30  # seconds without a step: whoever moved the clock is gone, and another may go on
KEPT_DAYS = 30  # a test clock deletes itself after so many days


@dataclass(frozen=True)
class Due:
    """Something that is due: what, and since when on the clock it lives on."""

    id: str
    type: str
    at: int


def test_clock(given: Body, *, wall: int) -> Body:
    return {
        "id": store.fresh_id("clock"),
        "object": TEST_CLOCK,
        "created": wall,
        "deletes_after": wall + KEPT_DAYS * DAY_S,
        "frozen_time": given["frozen_time"],
        "livemode": False,
        "name": given.get("name"),
        "status": "ready",
        "status_details": {},
    }


async def now_on(clock: str | None, wall: int) -> int:
    """What a clock shows. None is the one on the wall."""
    row = await store.anything(clock) if clock else None
    if row is None:
        return wall
    return int(row.body["frozen_time"]) if row.type == TEST_CLOCK else wall + int(row.body["ahead_s"])


async def clock_of(id: str, wall: int) -> SandboxObject:
    """The clock of this id, or the one of this customer, who gets one that runs ahead if it lived by the wall's."""
    row = await store.anything(id)
    if row is not None and row.type == TEST_CLOCK:
        return row
    customer = await store.get("customer", id)
    own = await store.anything(customer.clock) if customer.clock else None
    if own is None:
        own = await store.add({"id": store.fresh_id("ahead"), "object": AHEAD, "created": wall, "ahead_s": 0}, customer=customer.id)
        await SandboxObject.filter(customer=customer.id).update(clock=own.id)
        await SandboxObject.filter(id=customer.id).update(clock=own.id)
        own.clock = own.id
    return own


async def begin(clock: SandboxObject, to: int, rules: Rules, wall: int, mover: str = "") -> None:
    """Promise to be at `to`; kept by whoever steps first, or `mover`. Raises Fault for a move backwards, or during another."""
    if to < await now_on(clock.id, wall) or "target" in clock.hidden:
        raise Fault("A clock can only be advanced, to a later time, one move after the other.", param="frozen_time")
    clock.hidden |= {"target": to, "mover": mover, "moved_at": wall}
    if clock.type == TEST_CLOCK:
        clock.body |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": to}}}
    await store.keep(clock)
    await _tell(clock, "advancing", rules, wall)


def free(clock: SandboxObject, mover: str, wall: int) -> bool:
    """Whether this mover may step: nobody else has it, or whoever had it has stopped."""
    mine = clock.hidden.get("mover") in ("", mover)
    return "target" in clock.hidden and (mine or clock.hidden["moved_at"] <= wall - STOPPED_S)


async def step(clock: SandboxObject, rules: Rules, wall: int, mover: str) -> bool:
    """Play the next thing that is due before the target; False when there was none left and the clock has arrived."""
    if not free(clock, mover, wall):
        return False
    target = clock.hidden["target"]
    clock.hidden |= {"mover": mover, "moved_at": wall}
    first = await SandboxObject.filter(clock=clock.id, due_at__lte=target).order_by("due_at", "number").first()
    at = target if first is None else max(first.due_at, await now_on(clock.id, wall))
    await _set(clock, at, rules, wall, arrived=first is None)
    if first is None:
        return False
    await _play(first, Moment(at, rules, wall))
    return True


async def _set(clock: SandboxObject, at: int, rules: Rules, wall: int, *, arrived: bool) -> None:
    if clock.type == TEST_CLOCK:
        clock.body["frozen_time"] = at
    else:
        clock.body["ahead_s"] = at - wall
    if arrived:
        clock.hidden = {}
        if clock.type == TEST_CLOCK:
            clock.body |= {"status": "ready", "status_details": {}}
    await store.keep(clock)
    if arrived:
        await _tell(clock, "ready", rules, wall)


async def _tell(clock: SandboxObject, what: str, rules: Rules, wall: int) -> None:
    if clock.type == TEST_CLOCK:
        await webhooks.emit(f"test_helpers.test_clock.{what}", clock, Moment(wall, rules, wall))


async def due(wall: int) -> list[Due]:
    """What is due on clocks that run by themselves, in order; test clocks stand still."""
    rows = list(await SandboxObject.filter(clock=None, due_at__lte=wall))
    for ahead in await store.listing(AHEAD):
        rows += await SandboxObject.filter(clock=ahead.id, due_at__lte=wall + ahead.body["ahead_s"])
    return [Due(row.id, row.type, row.due_at) for row in sorted(rows, key=lambda row: (row.due_at, row.number))]


async def play_due(due: Due, rules: Rules, wall: int) -> bool:
    """At the moment it was due, however late it is: a night without the server moves no period. False when it was done already."""
    row = await store.anything(due.id)
    if row is None or row.due_at != due.at:
        return False
    await _play(row, Moment(due.at, rules, wall))
    return True


async def _play(row: SandboxObject, moment: Moment) -> None:
    await PLAYS[row.type](row, moment)
