"""How a team pays: cards, plans, the end of a subscription and the way back; and what the payment provider has to say.

Source: guide, "Managing your subscription". What each state allows stands in billing/dunning.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from auth.viewer import Viewer
from billing import cards, subscribing
from billing.access import require_active
from billing.outbox import END, RECONCILE, SEATS, TRIAL
from billing.reconciling import reconcile
from billing.sandbox_desk import SandboxDesk
from billing.seats import send_seats
from billing.signatures import read_delivery
from billing.till import Till, turn
from billing.webhook import hear
from errors import AlreadyActive, CallerError, CardRequired, InvalidInput, NotCancelable, NotFound
from fleet import jobs
from fleet.auditing import Json, record
from fleet.billing.news import BillingNews
from fleet.house import House
from models.account import User
from models.billing import BillingAccount, BillingPlan, CardSetup, CardSetupFlow
from models.operations import Job
from models.organization import BillingState, Member, Organization, Role
from models.transaction import transaction
from realtime.wakeup import JOBS

MAILED_WITHIN_S = 3.0
OFF = "Nobody is charged on this server: billing is off."


@dataclass(frozen=True, slots=True)
class Paid:
    """What became of an act that charges: the refusal stands beside what was done all the same, a new card for instance."""

    refusal: CallerError | None = None


async def create_card_setup(
    organization: Organization | None, *, flow: CardSetupFlow, return_url: str | None, house: House, by: Viewer
) -> cards.Setup:
    """A way to give a card to the provider: for an organization, or, before there is one, for whoever asks.

    Raises InvalidInput for a returnUrl that is not allowed.
    """
    till = _till(house, by)
    if organization is None:
        account = await subscribing.account_for(by.must_be_user("organization:write"), till)
    else:
        by.must("billing.write", organization.id)
        account = await _account(organization)
    made = await cards.begin(account, flow, return_url, till=till)
    await _record(by, "billing.card_setup_created", organization, flow=flow.value)
    return made


async def update_card(organization: Organization, setup_id: int, *, house: House, by: Viewer) -> Paid:
    """Charge the card of this setup from now on, and at once what is owed. Raises InvalidInput unless it came through."""
    by.must("billing.write", organization.id)
    till, account = _till(house, by), await _account(organization)
    setup = await own_setup(setup_id, account)
    refusal = await _take(setup, account, till)
    await _record(by, "billing.card_updated", organization)
    return Paid(refusal)


async def change_plan(organization: Organization, plan: BillingPlan, *, house: House, by: Viewer) -> None:
    """Another plan; what was paid for the rest of the period counts. Source: guide, "How billing works"."""
    by.must("billing.write", organization.id)
    require_active(organization)
    till, account = _till(house, by), await _account(organization)
    before = account.plan
    await subscribing.change_plan(account, plan, till=till)
    if before != plan:
        await _record(by, "billing.plan_changed", organization, before=before, after=plan.value)


async def cancel(organization: Organization, *, reason: str | None, house: House, by: Viewer) -> None:
    """End with the period that is paid for. Raises NotCancelable."""
    by.must("billing.write", organization.id)
    account = await subscribing.account_of(organization)
    if account is None or house.till is None:
        raise NotCancelable("There is no subscription to cancel: nobody is charged.")
    await subscribing.cancel(account, reason=reason, till=_till(house, by))
    await _record(by, "billing.canceled", organization, reason=reason)


async def reactivate(organization: Organization, *, setup_id: int | None, idempotency_key: str | None, house: House, by: Viewer) -> None:
    """Take a cancellation back, or begin anew, charged at once. Raises AlreadyActive, CardRequired, CardDeclined, ActionRequired."""
    by.must("billing.write", organization.id)
    account = await subscribing.account_of(organization)
    if account is None or house.till is None:
        raise AlreadyActive("There is nothing to re-activate: nobody is charged.")
    if setup_id is not None:
        await _take(await own_setup(setup_id, account), account, _till(house, by))
        account = await _account(organization)
    await subscribing.reactivate(account, idempotency_key=idempotency_key, till=_till(house, by))
    await _record(by, "billing.reactivated", organization)


async def pay_open_invoice(organization: Organization, *, idempotency_key: str | None, house: House, by: Viewer) -> None:
    """Charge what is open now, instead of waiting for the next attempt. Raises NotFound, CardDeclined, CardRequired, ActionRequired."""
    by.must("billing.write", organization.id)
    till, account = _till(house, by), await _account(organization)
    await subscribing.pay_open(account, idempotency_key=idempotency_key, till=till)
    await _record(by, "billing.invoice_paid", organization)


async def arrange(user: User, setup_id: int | None, till: Till) -> BillingAccount:
    """A customer for an organization that is about to be founded, with the card of this setup.

    Raises CardRequired where the server asks for one, InvalidInput for a setup through which none came.
    """
    account = await subscribing.account_for(user, till)
    if setup_id is not None:
        setup = await own_setup(setup_id, account, field="cardSetupId")
        if refusal := await _take(setup, account, till):
            raise refusal
        await account.refresh_from_db()
    elif till.settings.billing_require_card and account.payment_method_id is None:
        raise CardRequired("Give a card: createCardSetup without an organization, then its id as cardSetupId.", path=("cardSetupId",))
    return account


async def own_setup(setup_id: int, account: BillingAccount, *, field: str = "setupId") -> CardSetup:
    """A setup of this customer that is still good. Raises InvalidInput for any other, without telling whether it exists."""
    setup = await CardSetup.filter(id=setup_id, account_id=account.id, expires_at__gt=datetime.now(UTC)).first()
    if setup is None:
        raise InvalidInput("There is no such card setup for this organization, or it is older than a day.", path=(field,))
    return setup


async def heard(body: bytes, signature: bytes, *, house: House) -> bool:
    """A delivery of the payment provider. Raises WebhookRefused for what is not its; anything else means: deliver it again."""
    till = house.till
    if till is None:
        raise NotFound("Billing is off.")
    return await hear(read_delivery(body, signature, secrets=till.webhook_secrets, now=datetime.now(UTC)), till)


async def adopt_exempt(*, house: House) -> list[str]:
    """Give every organization that was founded with billing off a customer and its trial; their slugs. For the operator.

    The owner who has been there longest is named to the provider. Harmless when done again.
    """
    till, adopted = _till(house), []
    for organization in await Organization.filter(billing_state=BillingState.EXEMPT).order_by("id"):
        owner = await Member.filter(organization_id=organization.id, role=Role.OWNER).order_by("id").select_related("user").first()
        if owner is None:
            continue
        account = await subscribing.account_for(owner.user, till)
        async with transaction():
            await subscribing.adopt(account, organization, BillingPlan.TEAM_MONTHLY, datetime.now(UTC), till=till)
            await _write(Viewer.house("billing"), "billing.adopted", organization)
        await subscribing.start_trial(account.id, till)
        adopted.append(organization.slug)
    return adopted


# ── the sandbox ──
async def complete_sandbox_setup(setup_id: int, payment_method: str, *, house: House, by: Viewer) -> CardSetup:
    """Do with one of the test cards what a person does on the hosted page. Raises CardDeclined, ActionRequired, InvalidInput."""
    by.must_be_somebody()
    till, desk = _sandbox(house)
    setup = await CardSetup.filter(id=setup_id, expires_at__gt=datetime.now(UTC)).select_related("account__organization").first()
    if setup is None or not _is_own(setup.account, by):
        raise NotFound("There is no such card setup for you, or it is older than a day.", path=("setupId",))
    organization: Organization | None = setup.account.organization
    if organization is not None:
        by.must("billing.write", organization.id)
    await desk.complete(setup, setup.account, payment_method, till)
    await desk.settled()
    await _record(by, "billing.card_setup_completed", organization, payment_method=payment_method)
    return setup


async def advance_sandbox_clock(organization: Organization, to: datetime, *, house: House, by: Viewer) -> None:
    """Move the organization's billing time; back when all that falls due has happened, mails included. Raises InvalidInput."""
    by.must("billing.write", organization.id)
    till, desk = _sandbox(house)
    account, before = await _account(organization), await Job.all().order_by("-id").first()
    await desk.advance(account, to, till)
    await subscribing.end_locked(account.id, till)
    if house.wakeup.is_heard(JOBS):
        await _until_mailed(before.id if before else 0)
    await _record(by, "billing.clock_advanced", organization, to=to.isoformat())


async def _until_mailed(after_job: int) -> None:
    """The worker of this process is at it; a mail server that is away is not waited for."""
    with suppress(TimeoutError):
        async with asyncio.timeout(MAILED_WITHIN_S):
            while await Job.filter(kind=jobs.MAIL, id__gt=after_job, done_at=None, parked_at=None, attempts__lt=2).exists():
                await asyncio.sleep(0.05)


def _is_own(account: BillingAccount, by: Viewer) -> bool:
    if account.organization is not None:
        return by.belongs_to(account.organization.id)
    return by.user is not None and by.user.id == account.user_id  # type: ignore[attr-defined]  # a Tortoise column


def _sandbox(house: House) -> tuple[Till, SandboxDesk]:
    if house.till is None or house.till.desk is None:
        raise NotFound("This exists only with BILLING=sandbox.")
    return house.till, house.till.desk


# ── promises kept by the worker ──
async def keep_promise(kind: str, payload: Mapping[str, Any], *, house: House) -> None:
    """Do what billing promised at a commit. With billing off meanwhile, there is nobody to tell: raises NotFound, to be parked."""
    if kind == RECONCILE:
        await reconcile(_till(house), datetime.now(UTC))
    else:
        await PROMISES[kind](int(payload["account_id"]), _till(house))


async def pass_time(house: House) -> None:
    """What fell due in the sandbox by itself."""
    if house.till is not None and house.till.desk is not None:
        await house.till.desk.run_due()


PROMISES: Mapping[str, Callable[[int, Till], Awaitable[object]]] = {
    SEATS: send_seats,
    END: subscribing.end_locked,
    TRIAL: subscribing.start_trial,
}


async def _take(setup: CardSetup, account: BillingAccount, till: Till) -> CallerError | None:
    async with turn(account):
        await account.refresh_from_db()
        await setup.refresh_from_db()
        shape = await cards.arrived(setup, account, till=till)
        assert shape.card is not None
        try:
            await cards.take(setup, account, shape.card, till=till)
        except CallerError as refusal:
            return refusal
    return None


async def _account(organization: Organization) -> BillingAccount:
    account = await subscribing.account_of(organization)
    if account is None:
        raise InvalidInput(OFF, path=("organization",))
    return account


def _till(house: House, by: Viewer | None = None) -> Till:
    """The till; with `by`, what moves at once because of this act stands under their name in the audit."""
    if house.till is None:
        raise InvalidInput(OFF)
    return house.till if by is None else replace(house.till, teller=BillingNews(house.sealer, house.settings.public_url, by))


async def _record(by: Viewer, action: str, organization: Organization | None, **detail: Json) -> None:
    async with transaction():
        await _write(by, action, organization, **detail)


async def _write(by: Viewer, action: str, organization: Organization | None, **detail: Json) -> None:
    subject = f"organization:{organization.slug}" if organization else by.actor
    await record(by, action, subject, organization_id=organization.id if organization else None, **detail)
