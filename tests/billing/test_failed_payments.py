"""A card that does not pay: access stays, a mail each time, a lock at the end, and the way back. Source: guide, "Failed Payments"."""

from datetime import timedelta

from models.organization import Member, Organization
from models.product import Product
from tests.house import GraphQLFailed
from tests.payer import Payer, days, moment

FAILS = "pm_card_chargeCustomerFail"
HOUR = timedelta(hours=1)


async def test_a_failed_payment_is_told_each_time_and_locks_only_after_three_retries(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    product = await payer.product(owner)
    charged_at = moment((await payer.billing(owner))["trialEndsAt"]) + HOUR
    seen = []

    for after in (0, 3, 8, 15):
        billing = await payer.advance(owner, charged_at + days(after) + timedelta(minutes=1))
        seen.append((billing["state"], billing["failedAttempts"], billing["nextPaymentAttempt"]))

    expected = [charged_at + days(next_one) for next_one in (3, 8, 15)]
    assert [(state, attempts) for state, attempts, _ in seen] == [("PAST_DUE", 1), ("PAST_DUE", 2), ("PAST_DUE", 3), ("LOCKED", 4)]
    assert [moment(at) for _, _, at in seen[:3]] == expected
    assert seen[3][2] is None
    mails = [mail for mail in await payer.letters() if "failed" in mail.subject]
    assert [f"attempt {n} to charge 49.00 USD" in mail.text for n, mail in enumerate(mails, 1)] == [True] * 4
    assert [f"{at:%Y-%m-%d}" in mail.text for at, mail in zip(expected, mails, strict=False)] == [True] * 3
    assert "no further attempt" in mails[3].text
    assert (await payer.subjects())[-1] == "Acme is locked"
    assert await Product.filter(number=product).exists()
    assert await Member.all().count() == 1
    assert await payer.provider_subscriptions() == [("canceled", 1)]


async def test_while_payments_fail_the_team_works_on(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))

    number = await payer.product(owner)

    assert (await payer.billing(owner))["state"] == "PAST_DUE"
    assert (await payer.ask(f"{{ product(productId: {number}) {{ name }} }}", owner))["product"] == {"name": "Lamp"}


async def test_access_is_paid_until_moves_on_payment_only(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    ends = (await payer.billing(owner))["trialEndsAt"]

    failed = await payer.advance(owner, moment(ends) + days(1))
    paid = await payer.act("updateCard", owner, setupId=await payer.setup(owner, "pm_card_visa"))

    assert failed["accessUntil"] == ends
    assert moment(failed["currentPeriodEnd"]) > moment(ends)
    assert paid["accessUntil"] == failed["currentPeriodEnd"]


async def test_a_new_card_pays_what_is_owed_at_once_and_the_cycle_stays(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    before = await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(4))

    billing = await payer.act("updateCard", owner, setupId=await payer.setup(owner, "pm_card_visa"))

    assert (before["state"], before["failedAttempts"]) == ("PAST_DUE", 2)
    assert (billing["state"], billing["failedAttempts"], billing["nextPaymentAttempt"]) == ("ACTIVE", 0, None)
    assert billing["currentPeriodEnd"] == before["currentPeriodEnd"]
    assert [(each["total"], each["status"]) for each in await payer.invoices(owner)] == [(4900, "paid"), (0, "paid")]
    assert (await payer.subjects())[-1] == "Receipt for Acme: 49.00 USD"


async def test_a_new_card_that_does_not_pay_either_is_kept_and_the_refusal_says_why(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
    mailed = await payer.subjects()
    setup = await payer.setup(owner, FAILS)

    payload = await payer.do("updateCard", "billing { state failedAttempts }", owner, organization="acme", setupId=setup)

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("CARD_DECLINED", "generic_decline")]
    assert payload["billing"] == {"state": "PAST_DUE", "failedAttempts": 1}
    assert await payer.subjects() == mailed  # paying by hand is no attempt of ours


async def test_an_open_invoice_can_be_paid_before_the_next_attempt(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    nothing = await payer.do("payOpenInvoice", "billing { state }", owner, organization="acme")
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))

    declined = await payer.do("payOpenInvoice", "billing { state }", owner, organization="acme")

    assert [error["code"] for error in nothing["errors"]] == ["NOT_FOUND"]
    assert [error["code"] for error in declined["errors"]] == ["CARD_DECLINED"]
    assert (await payer.billing(owner))["state"] == "PAST_DUE"


async def locked(payer: Payer) -> str:
    """The token of the owner of an organization that was locked a day ago."""
    owner = await payer.found(FAILS)
    billing = await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + HOUR + days(16))
    assert billing["state"] == "LOCKED"
    return owner


async def test_a_card_page_says_whether_the_name_or_the_page_is_at_fault(payer: Payer) -> None:
    ann = await payer.found()
    used = await payer.setup(ann, "pm_card_mastercard")
    fresh = (await payer.do("createCardSetup", "setup { id }", ann, flow="HOSTED", organization="acme"))["setup"]["id"]

    refused = [
        (await payer.do("completeSandboxCardSetup", "setup { id }", ann, setupId=setup, paymentMethod=card))["errors"]
        for setup, card in ((used, "pm_card_visa"), (fresh, "4242"))
    ]

    assert [(error[0]["code"], error[0]["path"]) for error in refused] == [
        ("INVALID_INPUT", ["input", "setupId"]),
        ("INVALID_INPUT", ["input", "paymentMethod"]),
    ]
    assert await payer.setup(ann, "pm_card_visa")  # and neither stands in the way of the next


async def test_coming_back_from_a_lock_charges_at_once_for_a_period_from_today(payer: Payer) -> None:
    owner = await locked(payer)
    setup = await payer.setup(owner, "pm_card_visa")
    now = await payer.now()

    billing = await payer.act("reactivateSubscription", owner, setupId=setup)

    assert (billing["state"], billing["failedAttempts"]) == ("ACTIVE", 0)
    assert days(28) <= moment(billing["currentPeriodEnd"]) - now <= days(31)
    assert billing["accessUntil"] == billing["currentPeriodEnd"]
    assert [(each["total"], each["status"]) for each in await payer.invoices(owner)] == [(4900, "paid"), (4900, "void"), (0, "paid")]
    assert await payer.provider_subscriptions() == [("active", 1), ("canceled", 1)]


async def test_coming_back_with_a_card_that_is_declined_changes_nothing(payer: Payer) -> None:
    owner = await locked(payer)
    mailed = await payer.subjects()

    payload = await payer.do("reactivateSubscription", "billing { state }", owner, organization="acme")

    assert [(error["code"], error["reason"]) for error in payload["errors"]] == [("CARD_DECLINED", "generic_decline")]
    assert (await payer.billing(owner))["state"] == "LOCKED"
    assert await payer.subjects() == mailed
    assert [status for status, _ in await payer.provider_subscriptions()] in (
        ["canceled", "canceled"],
        ["incomplete_expired", "canceled"],
    )


async def test_the_bank_s_confirmation_is_waited_for_and_then_the_team_is_back(payer: Payer) -> None:
    owner = await locked(payer)
    setup = await payer.setup(owner, "pm_card_authenticationRequired")

    asked = await payer.do("reactivateSubscription", "billing { state } clientSecret hostedUrl", owner, organization="acme", setupId=setup)
    waiting = (await payer.billing(owner))["state"]
    await payer.confirm(asked["hostedUrl"])
    billing = await payer.billing(owner)

    assert [error["code"] for error in asked["errors"]] == ["ACTION_REQUIRED"]
    assert asked["clientSecret"]
    assert (waiting, billing["state"]) == ("INCOMPLETE", "ACTIVE")


async def test_a_confirmation_that_never_comes_leaves_it_locked(payer: Payer) -> None:
    owner = await locked(payer)
    setup = await payer.setup(owner, "pm_card_authenticationRequired")
    await payer.do("reactivateSubscription", "billing { state }", owner, organization="acme", setupId=setup)

    billing = await payer.advance(owner, await payer.now() + timedelta(hours=24))

    assert billing["state"] == "LOCKED"
    assert (await payer.subjects()).count("Acme is locked") == 1


async def test_the_same_re_activation_sent_twice_charges_once(payer: Payer) -> None:
    owner = await locked(payer)
    await payer.act("updateCard", owner, setupId=await payer.setup(owner, "pm_card_visa"))

    first = await payer.act("reactivateSubscription", owner, idempotencyKey="the answer got lost")
    second = await payer.act("reactivateSubscription", owner, idempotencyKey="the answer got lost")
    third = await payer.do("reactivateSubscription", "billing { state }", owner, organization="acme")

    assert first == second
    assert [error["code"] for error in third["errors"]] == ["ALREADY_ACTIVE"]
    assert [each["total"] for each in await payer.invoices(owner) if each["status"] == "paid"] == [4900, 0]


async def test_a_locked_team_sees_billing_and_nothing_else_and_customers_go_on(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    number = await payer.product(owner)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + HOUR + days(16))
    before = await payer.audited()

    open_ones = await payer.ask('{ organization(slug: "acme") { id slug name billing { state } } server { name } viewer { kind } }', owner)
    refused = []
    for query in (
        '{ organization(slug: "acme") { members { id } } }',
        '{ organization(slug: "acme") { invitations { id } } }',
        '{ organization(slug: "acme") { apiUsers { id } } }',
        '{ organization(slug: "acme") { auditLog { nodes { id } } } }',
        '{ organization(slug: "acme") { products { nodes { id } } } }',
        f"{{ product(productId: {number}) {{ name }} }}",
    ):
        try:
            await payer.ask(query, owner)
        except GraphQLFailed as failed:
            refused.append(failed.codes)
    mutations = [
        await payer.do("updateOrganization", "organization { id }", owner, slug="acme", name="Other"),
        await payer.do("updateProduct", "product { id }", owner, productId=number, name="Other"),
        await payer.do("inviteMember", "invitation { id }", owner, organization="acme", email="eve@example.com"),
        await payer.do("changePlan", "billing { state }", owner, organization="acme", plan="TEAM_ANNUAL"),
    ]

    assert open_ones["organization"]["billing"] == {"state": "LOCKED"}
    assert refused == [["ORGANIZATION_INACTIVE"]] * 6
    assert [[error["code"] for error in answer["errors"]] for answer in mutations] == [["ORGANIZATION_INACTIVE"]] * 4
    assert await payer.audited() == before
    assert (await Organization.get(slug="acme")).name == "Acme"
