"""Scenarios of billing: Acme pays in the sandbox, and is in its trial."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.billing import paying
from models.billing import BillingAccount
from tests.scenarios.scenario import Input, mutation, streaming
from tests.scenarios.stage import ACME, Stage

FAILS = "pm_card_chargeCustomerFail"


async def _adopt(stage: Stage) -> Input:
    await paying.adopt_exempt(house=stage.tester.house)
    await stage.settled()
    return {"organization": ACME}


async def _setup(stage: Stage, card: str | None) -> str:
    made = await stage.owner("createCardSetup", "setup { id }", organization=ACME, flow="HOSTED")
    if card is not None:
        await stage.owner("completeSandboxCardSetup", "setup { id }", setupId=made["setup"]["id"], paymentMethod=card)
    await stage.settled()
    return str(made["setup"]["id"])


async def _advance(stage: Stage, to: datetime) -> None:
    await stage.owner("advanceSandboxClock", "billing { state }", organization=ACME, to=to.isoformat())


@mutation("createCardSetup", billing="sandbox")
async def create_card_setup(stage: Stage) -> Input:
    return {**await _adopt(stage), "flow": "HOSTED"}


@mutation("updateCard", billing="sandbox")
async def update_card(stage: Stage) -> Input:
    return {**await _adopt(stage), "setupId": await _setup(stage, "pm_card_visa")}


@mutation("completeSandboxCardSetup", billing="sandbox")
async def complete_sandbox_card_setup(stage: Stage) -> Input:
    await _adopt(stage)
    return {"setupId": await _setup(stage, None), "paymentMethod": "pm_card_visa"}


@mutation("changePlan", billing="sandbox")
async def change_plan(stage: Stage) -> Input:
    return {**await _adopt(stage), "plan": "TEAM_ANNUAL"}


@mutation("cancelSubscription", billing="sandbox")
async def cancel_subscription(stage: Stage) -> Input:
    return await _adopt(stage)


@mutation("reactivateSubscription", billing="sandbox")
async def reactivate_subscription(stage: Stage) -> Input:
    given = await _adopt(stage)
    await stage.owner("cancelSubscription", "billing { state }", **given)
    await stage.settled()
    return given


@mutation("payOpenInvoice", billing="sandbox", entries=2)  # and that the organization is no longer past due
async def pay_open_invoice(stage: Stage) -> Input:
    given = await _adopt(stage)
    await _setup(stage, FAILS)
    account = await BillingAccount.get(organization__slug=ACME)
    assert account.trial_ends_at is not None
    await _advance(stage, account.trial_ends_at + timedelta(days=1))
    await _pay_with_another_card(stage, account)
    return given


async def _pay_with_another_card(stage: Stage, account: BillingAccount) -> None:
    """Behind our back, as an operator would at the provider: a card that pays, so far unused."""
    assert stage.tester.house.till is not None
    gateway: Any = stage.tester.house.till.gateway
    card = await gateway._stripe.payment_methods.attach_async("pm_card_visa", {"customer": account.customer_id})
    await gateway.use_card(account.customer_id, card["id"])
    await stage.settled()


@mutation("advanceSandboxClock", billing="sandbox")
async def advance_sandbox_clock(stage: Stage) -> Input:
    return {**await _adopt(stage), "to": (datetime.now(UTC) + timedelta(days=1)).isoformat()}


@streaming("billingChanged", "subscription ($slug: String!) { billingChanged(organization: $slug) { state } }")
async def billing_changed(stage: Stage) -> Input:
    return {"slug": ACME}
