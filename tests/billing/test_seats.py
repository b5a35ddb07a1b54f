"""Seats follow the accepted members, to the cent on the next invoice. Source: guide, "How billing works"."""

from datetime import datetime, timedelta

from models.operations import Job
from tests.payer import Payer, days, moment

FIGURES = "total currency dueAt lines { amount quantity proration }"


async def first_period(payer: Payer, owner: str) -> tuple[datetime, datetime]:
    """Let the trial pass; the first paid period."""
    begins = moment((await payer.billing(owner))["trialEndsAt"])
    billing = await payer.advance(owner, begins + timedelta(hours=2))
    return begins, moment(billing["currentPeriodEnd"])


async def period_of(payer: Payer, owner: str, length: timedelta) -> tuple[datetime, datetime]:
    """Go on to the first period that is as long as that."""
    begins, ends = await first_period(payer, owner)
    while ends - begins != length:
        billing = await payer.advance(owner, ends + timedelta(hours=2))
        begins, ends = ends, moment(billing["currentPeriodEnd"])
    return begins, ends


async def leave(payer: Payer, owner: str, email: str) -> None:
    team = await payer.ask('{ organization(slug: "acme") { members { id user { email } } } }', owner)
    (seat,) = [member["id"] for member in team["organization"]["members"] if member["user"]["email"] == email]
    payload = await payer.do("removeMember", "organization { slug }", owner, memberId=seat)
    assert payload["errors"] == []
    await payer.work()


async def join(payer: Payer, owner: str, name: str) -> None:
    await payer.member(owner, name, "DEVELOPER")
    await payer.work()


async def test_a_third_member_after_ten_of_thirty_days_costs_3267_more(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    await join(payer, owner, "bob")
    begins, ends = await period_of(payer, owner, days(30))
    await payer.advance(owner, begins + days(10))

    foreseen = await payer.billing(owner, f"preview(seats: 3) {{ {FIGURES} }}")
    await join(payer, owner, "eve")
    upcoming = await payer.billing(owner, f"upcomingInvoice {{ {FIGURES} }}")
    await payer.advance(owner, ends + timedelta(hours=2))
    invoice = (await payer.invoices(owner))[0]

    assert invoice["total"] == 14700 + 3267
    assert sorted(line["amount"] for line in invoice["lines"]) == [-6533, 9800, 14700]
    assert [line["amount"] for line in invoice["lines"] if line["proration"]] == [-6533, 9800]
    assert foreseen["preview"]["total"] == upcoming["upcomingInvoice"]["total"] == invoice["total"]


async def test_a_second_member_after_73_days_of_a_year_costs_47040_more(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa", plan="TEAM_ANNUAL")
    begins, ends = await first_period(payer, owner)
    await payer.advance(owner, begins + days(73))
    rest, whole = ends - (begins + days(73)), ends - begins

    foreseen = await payer.billing(owner, f"preview(seats: 2) {{ {FIGURES} }}")
    await join(payer, owner, "bob")
    await payer.advance(owner, ends + timedelta(hours=2))
    invoice = (await payer.invoices(owner))[0]

    more = round(2 * 58800 * (rest / whole)) - round(58800 * (rest / whole))
    assert invoice["total"] == foreseen["preview"]["total"] == 117600 + more
    assert whole != days(365) or invoice["total"] == 164640


async def test_who_leaves_is_credited_and_nothing_is_paid_back_at_once(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    await join(payer, owner, "bob")
    begins, ends = await period_of(payer, owner, days(30))
    await payer.advance(owner, begins + days(15))
    before = await payer.invoices(owner)

    await leave(payer, owner, "bob@example.com")
    after = await payer.invoices(owner)
    await payer.advance(owner, ends + timedelta(hours=2))

    assert after == before
    assert (await payer.invoices(owner))[0]["total"] == 4900 - 2450
    assert (await payer.billing(owner))["seats"] == 1


async def test_in_the_trial_a_change_costs_nothing_and_an_invitation_never_does(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    ends = moment((await payer.billing(owner))["trialEndsAt"])
    await payer.person("eve")
    await payer.advance(owner, ends - days(10))

    await join(payer, owner, "bob")
    await payer.do("inviteMember", "invitation { id }", owner, organization="acme", email="eve@example.com")
    await payer.advance(owner, ends + timedelta(hours=2))

    assert [each["total"] for each in await payer.invoices(owner)] == [2 * 4900, 0]


async def test_many_changes_are_one_message_with_the_number_there_is_then(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")

    for name in ("bob", "eve", "kim"):
        await payer.member(owner, name, "DEVELOPER")
    promised = await Job.filter(kind="billing-seats").count()
    await payer.work()
    await payer.member(owner, "liv", "DEVELOPER")
    later = await Job.filter(kind="billing-seats", done_at=None).get()

    assert promised == 1
    assert await payer.provider_subscriptions() == [("trialing", 4)]
    account = await payer.account()
    assert account.seats_sent_at is not None
    assert later.due_at - account.seats_sent_at == timedelta(seconds=10)


async def test_another_plan_is_charged_at_once_less_what_was_paid(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    begins, _ = await period_of(payer, owner, days(30))
    now = begins + days(15)
    await payer.advance(owner, now)

    foreseen = await payer.billing(owner, f"preview(plan: TEAM_ANNUAL) {{ {FIGURES} }}")
    billing = await payer.act("changePlan", owner, plan="TEAM_ANNUAL")
    invoice = (await payer.invoices(owner))[0]

    assert (billing["plan"], billing["unitAmount"], billing["state"]) == ("TEAM_ANNUAL", 58800, "ACTIVE")
    assert invoice["status"] == "paid"
    assert invoice["total"] == foreseen["preview"]["total"]
    assert -2450 in [line["amount"] for line in invoice["lines"]]
    assert billing["accessUntil"] == billing["currentPeriodEnd"]


async def test_a_plan_is_changed_with_all_its_seats(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    await join(payer, owner, "bob")
    await join(payer, owner, "eve")

    billing = await payer.act("changePlan", owner, plan="TEAM_ANNUAL")
    await payer.act("changePlan", owner, plan="TEAM_ANNUAL")

    assert (billing["plan"], billing["seats"]) == ("TEAM_ANNUAL", 3)
    assert await payer.provider_subscriptions() == [("trialing", 3)]
    assert (await payer.audited()).count("billing.plan_changed") == 1


async def test_nothing_is_upcoming_where_nothing_will_be_charged(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    due = await payer.billing(owner, f"upcomingInvoice {{ {FIGURES} }}")

    await payer.act("cancelSubscription", owner)
    none = await payer.billing(owner, f"upcomingInvoice {{ {FIGURES} }}")

    assert due["upcomingInvoice"]["total"] == 4900
    assert none["upcomingInvoice"] is None
