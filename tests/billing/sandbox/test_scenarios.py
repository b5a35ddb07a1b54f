"""What billing relies on, as scenarios that must hold in the sandbox and on a real test account alike."""

import pytest
import stripe

from tests.billing.sandbox.account import DAY, HOUR, Account, amounts, end_of


async def test_a_trial_begins_with_a_paid_invoice_of_nothing(anywhere: Account) -> None:
    payer = await anywhere.payer(card=None)

    trial = await anywhere.trial(payer, seats=2)

    assert trial["status"] == "trialing"
    assert trial["trial_end"] == end_of(trial) == anywhere.start + 30 * DAY
    assert (trial["latest_invoice"]["status"], trial["latest_invoice"]["amount_due"]) == ("paid", 0)
    assert trial["latest_invoice"]["attempt_count"] == 0
    assert trial["livemode"] is False


async def test_a_trial_is_charged_an_hour_after_its_end(anywhere: Account) -> None:
    payer = await anywhere.payer()
    trial = await anywhere.trial(payer, seats=2)

    await anywhere.move(payer.clock, anywhere.start + 30 * DAY + HOUR // 2)
    draft = (await anywhere.invoices(payer))[0]
    await anywhere.move(payer.clock, anywhere.start + 30 * DAY + 2 * HOUR)
    paid, first = await anywhere.invoices(payer)
    now = await anywhere.subscription(trial["id"])

    assert (draft["status"], draft["amount_due"], draft["attempt_count"]) == ("draft", 9800, 0)
    assert (paid["id"], paid["status"], paid["amount_paid"], paid["attempt_count"]) == (draft["id"], "paid", 9800, 1)
    assert first["amount_due"] == 0
    assert now["status"] == "active"


async def test_a_trial_that_ends_without_a_card_is_over_and_nothing_is_charged(anywhere: Account) -> None:
    payer = await anywhere.payer(card=None)
    trial = await anywhere.trial(payer)

    await anywhere.move(payer.clock, anywhere.start + 28 * DAY)
    told_before = await anywhere.told(payer)
    await anywhere.move(payer.clock, anywhere.start + 31 * DAY)
    now = await anywhere.subscription(trial["id"])
    told = await anywhere.told(payer)

    assert "customer.subscription.trial_will_end" in told_before
    assert now["status"] == "canceled"
    assert [invoice["amount_due"] for invoice in await anywhere.invoices(payer)] == [0]
    assert "customer.subscription.deleted" in told
    assert "invoice.payment_failed" not in told


async def test_three_seats_after_ten_of_thirty_days_cost_what_the_preview_said(anywhere: Account) -> None:
    """The worked figure, in a period of whatever length the calendar gives."""
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer, seats=2)
    begin, end = anywhere.start, end_of(subscription)
    await anywhere.move(payer.clock, begin + 10 * DAY)

    shown = await anywhere.preview(payer, subscription, quantity=3)
    await anywhere.seats(subscription, 3)
    unchanged = len(await anywhere.invoices(payer))
    again = await anywhere.preview(payer, subscription)
    await anywhere.move(payer.clock, end + 2 * HOUR)
    billed = (await anywhere.invoices(payer))[0]

    part = (end - begin - 10 * DAY) / (end - begin)
    assert unchanged == 1
    assert sorted(amounts(billed)) == sorted([-round(2 * 4900 * part), round(3 * 4900 * part), 3 * 4900])
    assert shown["total"] == again["total"] == billed["total"] == billed["amount_paid"]


async def test_seats_cost_nothing_during_a_trial(anywhere: Account) -> None:
    payer = await anywhere.payer()
    trial = await anywhere.trial(payer)
    await anywhere.move(payer.clock, anywhere.start + 10 * DAY)

    await anywhere.seats(trial, 4)
    shown = await anywhere.preview(payer, trial)

    assert amounts(shown) == [4 * 4900]


async def test_a_credit_larger_than_the_next_bill_is_kept_for_the_one_after(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer, seats=9)
    await anywhere.move(payer.clock, anywhere.start + DAY)
    await anywhere.seats(subscription, 1)
    end = end_of(subscription)

    await anywhere.move(payer.clock, end + 2 * HOUR)
    billed = (await anywhere.invoices(payer))[0]
    customer = await anywhere.v1.customers.retrieve_async(payer.id)

    assert billed["total"] < 0
    assert (billed["status"], billed["amount_due"], billed["amount_paid"]) == ("paid", 0, 0)
    assert customer["balance"] == billed["ending_balance"] == billed["total"]


async def test_after_cancelling_it_runs_to_the_end_of_the_period_and_is_not_charged_again(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer)
    await anywhere.move(payer.clock, anywhere.start + DAY)

    asked = {"cancel_at_period_end": True, "cancellation_details": {"comment": "too few devices"}}
    ending = await anywhere.v1.subscriptions.update_async(subscription["id"], asked)
    await anywhere.move(payer.clock, end_of(subscription) + 2 * HOUR)
    over = await anywhere.subscription(subscription["id"])

    assert (ending["status"], ending["cancel_at"]) == ("active", end_of(subscription))
    assert ending["canceled_at"] is not None
    assert (over["status"], over["cancellation_details"]["reason"]) == ("canceled", "cancellation_requested")
    assert over["cancellation_details"]["comment"] == "too few devices"
    assert len(await anywhere.invoices(payer)) == 1


async def test_a_cancellation_can_be_taken_back_and_the_cycle_stays(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer)
    await anywhere.v1.subscriptions.update_async(subscription["id"], {"cancel_at_period_end": True})

    again = await anywhere.v1.subscriptions.update_async(subscription["id"], {"cancel_at_period_end": False})
    await anywhere.move(payer.clock, end_of(subscription) + 2 * HOUR)

    assert (again["cancel_at"], end_of(again)) == (None, end_of(subscription))
    assert [invoice["amount_paid"] for invoice in await anywhere.invoices(payer)] == [4900, 4900]


async def test_a_subscription_ended_at_once_forgets_what_waited_to_be_billed(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer)
    await anywhere.move(payer.clock, anywhere.start + DAY)
    await anywhere.seats(subscription, 5)

    await anywhere.v1.subscriptions.cancel_async(subscription["id"], {"prorate": False, "invoice_now": False})
    again = await anywhere.subscribe(payer, pay=False)

    assert amounts(again["latest_invoice"]) == [4900]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await anywhere.v1.subscriptions.cancel_async(subscription["id"])
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


async def test_a_card_that_fails_is_tried_again_and_its_invoice_stays_open(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer)
    await anywhere.give_card(payer, "pm_card_chargeCustomerFail")

    await anywhere.move(payer.clock, end_of(subscription) + 2 * HOUR)
    failed = (await anywhere.invoices(payer))[0]
    late = await anywhere.subscription(subscription["id"])
    await anywhere.give_card(payer, "pm_card_visa")
    paid = await anywhere.v1.invoices.pay_async(failed["id"])
    now = await anywhere.subscription(subscription["id"])

    assert (failed["status"], failed["attempt_count"], failed["attempted"]) == ("open", 1, True)
    assert failed["next_payment_attempt"] > end_of(subscription)
    assert late["status"] == "past_due"
    assert (paid["status"], paid["attempt_count"], paid["next_payment_attempt"]) == ("paid", 1, None)
    assert (now["status"], end_of(now)) == ("active", end_of(late))


async def test_a_first_payment_that_is_declined_leaves_the_subscription_incomplete(anywhere: Account) -> None:
    payer = await anywhere.payer("pm_card_chargeCustomerFail")
    made = await anywhere.subscribe(payer, pay=False)

    with pytest.raises(stripe.CardError) as declined:
        await anywhere.v1.invoices.pay_async(made["latest_invoice"]["id"])
    await anywhere.move(payer.clock, anywhere.start + DAY)
    expired = await anywhere.subscription(made["id"])
    invoice = await anywhere.v1.invoices.retrieve_async(made["latest_invoice"]["id"])

    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert declined.value.json_body["error"]["decline_code"] == "generic_decline"
    assert made["status"] == "incomplete"
    assert made["latest_invoice"]["confirmation_secret"]["client_secret"].startswith("pi_")
    assert (expired["status"], invoice["status"]) == ("incomplete_expired", "void")


async def test_a_bank_that_wants_a_check_refuses_the_payment_for_now(anywhere: Account) -> None:
    payer = await anywhere.payer("pm_card_authenticationRequired")
    made = await anywhere.subscribe(payer, pay=False)

    with pytest.raises(stripe.CardError) as asked:
        await anywhere.v1.invoices.pay_async(made["latest_invoice"]["id"])

    assert asked.value.code == "invoice_payment_intent_requires_action"
    assert (await anywhere.subscription(made["id"]))["status"] == "incomplete"


async def test_a_declined_card_is_refused_when_it_is_attached(anywhere: Account) -> None:
    payer = await anywhere.payer(card=None)

    with pytest.raises(stripe.CardError) as declined:
        await anywhere.v1.payment_methods.attach_async("pm_card_visa_chargeDeclined", {"customer": payer.id})

    assert declined.value.code == "card_declined"
    assert (await anywhere.v1.payment_methods.list_async({"customer": payer.id})).data == []


async def test_a_setup_intent_brings_a_card(anywhere: Account) -> None:
    payer = await anywhere.payer(card=None)
    asked = {"customer": payer.id, "usage": "off_session", "allowed_payment_method_types": ["card"], "metadata": {"setup_id": "7"}}

    intent = await anywhere.v1.setup_intents.create_async(asked)
    done = await anywhere.v1.setup_intents.confirm_async(intent["id"], {"payment_method": "pm_card_visa", "expand": ["payment_method"]})

    assert (intent["status"], done["status"]) == ("requires_payment_method", "succeeded")
    assert intent["client_secret"].startswith(f"{intent['id']}_secret_")
    assert (done["payment_method"]["card"]["brand"], done["payment_method"]["card"]["last4"]) == ("visa", "4242")
    assert done["payment_method"]["customer"] == payer.id
    assert done["metadata"]["setup_id"] == "7"


async def test_another_interval_is_billed_at_once(anywhere: Account) -> None:
    payer = await anywhere.payer()
    subscription = await anywhere.subscribe(payer, seats=2)
    await anywhere.move(payer.clock, anywhere.start + 10 * DAY)

    shown = await anywhere.preview(payer, subscription, quantity=2, price=await anywhere.price("year"))
    changed = await anywhere.seats(subscription, 2, price=await anywhere.price("year"))
    billed = (await anywhere.invoices(payer))[0]

    part = (end_of(subscription) - anywhere.start - 10 * DAY) / (end_of(subscription) - anywhere.start)
    assert sorted(amounts(billed)) == sorted([-round(2 * 4900 * part), 2 * 58_800])
    assert (billed["status"], billed["billing_reason"], billed["total"]) == ("paid", "subscription_update", shown["total"])
    assert changed["items"]["data"][0]["price"]["unit_amount"] == 58_800


async def test_one_key_makes_one_customer_and_another_request_may_not_use_it(anywhere: Account) -> None:
    key = {"idempotency_key": f"flotilla:{anywhere.start}:{id(anywhere)}"}

    first = await anywhere.v1.customers.create_async({"email": "once@example.com"}, key)
    second = await anywhere.v1.customers.create_async({"email": "once@example.com"}, key)

    assert first["id"] == second["id"]
    with pytest.raises(stripe.IdempotencyError):
        await anywhere.v1.customers.create_async({"email": "twice@example.com"}, key)


async def test_a_refused_void_says_so_without_a_code(anywhere: Account) -> None:
    payer = await anywhere.payer()
    made = await anywhere.subscribe(payer, pay=False)
    invoice = made["latest_invoice"]["id"]

    voided = await anywhere.v1.invoices.void_invoice_async(invoice)

    assert voided["status"] == "void"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await anywhere.v1.invoices.void_invoice_async(invoice)
    assert (refused.value.http_status, refused.value.code) == (400, None)


async def test_a_price_moves_its_lookup_key_on(anywhere: Account) -> None:
    product = await anywhere.v1.products.create_async({"name": "Team Plan"})
    key = f"team_{product['id']}"
    asked = {"product": product["id"], "currency": "usd", "recurring": {"interval": "month"}, "lookup_key": key}
    old = await anywhere.v1.prices.create_async(asked | {"unit_amount": 4900})

    new = await anywhere.v1.prices.create_async(asked | {"unit_amount": 5900, "transfer_lookup_key": True})
    found = await anywhere.v1.prices.list_async({"lookup_keys": [key]})

    assert [price["id"] for price in found.data] == [new["id"]]
    assert (await anywhere.v1.prices.retrieve_async(old["id"]))["lookup_key"] is None


async def test_an_unknown_parameter_is_refused(anywhere: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await anywhere.v1.customers.create_async({"email": "ann@example.com", "shoe_size": "44"})

    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, "parameter_unknown", "shoe_size")


async def test_what_does_not_exist_is_not_found(anywhere: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await anywhere.v1.customers.retrieve_async("cus_nobody")

    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
