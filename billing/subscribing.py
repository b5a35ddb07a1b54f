"""The subscription's life at the provider: a trial, another plan, an end, a return. Each runs in the customer's turn.

Source: guide, "Setting up an organization", "Cancelling a subscription", "Re-activate a subscription".
"""

from datetime import datetime, timedelta

from billing import cards
from billing.dunning import RUNNING
from billing.mirroring import refresh
from billing.outbox import TRIAL, put_down
from billing.seats import count_seats
from billing.stripe_client import GoneAlready
from billing.till import Till, turn
from errors import ActionRequired, AlreadyActive, AlreadyExists, CardDeclined, CardRequired, NotCancelable, NotFound
from models.account import User
from models.billing import BillingAccount, BillingPlan
from models.organization import BillingState, Organization
from models.sql import execute

LEFT_TO_THE_CALLER = timedelta(seconds=30)  # whoever promised tries at once; the worker only if that came to nothing


async def account_of(organization: Organization) -> BillingAccount | None:
    """None where nobody is charged: billing is off, or was when it was founded."""
    return await BillingAccount.filter(organization_id=organization.id).first()


async def account_for(user: User, till: Till) -> BillingAccount:
    """The person's customer that no organization has adopted yet; made if there is none."""
    mode = till.settings.billing
    account = await BillingAccount.filter(user_id=user.id, organization_id=None, mode=mode).order_by("id").first()
    if account is None:
        account = await BillingAccount.create(user=user, mode=mode)
    return await with_customer(account, user.email, user.id, till)


async def with_customer(account: BillingAccount, email: str, user_id: int, till: Till) -> BillingAccount:
    """The account with its customer at the provider."""
    if account.customer_id is not None:
        return account
    async with turn(account):
        await account.refresh_from_db()
        if account.customer_id is None:
            account.customer_id = await till.gateway.create_customer(email, user_id=user_id, key=f"customer:{account.id}")
            await account.save(update_fields=["customer_id"])
    return account


async def start_trial(account_id: int, till: Till) -> BillingAccount:
    """The subscription of a new organization. Nothing is charged until the trial is over; asked again, nothing happens."""
    account = await BillingAccount.get(id=account_id)
    async with turn(account):
        await account.refresh_from_db()
        if account.subscription_id is not None or account.customer_id is None:
            return account
        organization_id: int = account.organization_id  # type: ignore[attr-defined]  # a Tortoise column
        days = till.settings.billing_trial_days
        await till.gateway.start_trial(account.customer_id, BillingPlan(account.plan), organization_id=organization_id, days=days)
        return await refresh(account, till)


async def adopt(account: BillingAccount, organization: Organization, plan: BillingPlan, now: datetime, *, till: Till) -> None:
    """Inside the transaction that founds the organization: the customer is its own from now on, its one trial begins.

    The provider is told after the commit; if that fails, by the promise made here. Raises AlreadyExists when another organization
    took the customer at the same moment.
    """
    ends = now.replace(microsecond=0) + timedelta(days=till.settings.billing_trial_days)
    values = {"plan": plan, "trial_granted_at": now, "trial_ends_at": ends, "access_until": ends, "quantity": 1}
    free = BillingAccount.filter(id=account.id, organization_id=None, trial_granted_at=None)
    if not await free.update(organization_id=organization.id, **values):
        raise AlreadyExists("You are founding another organization at this moment: try again.")
    organization.billing_state = BillingState.TRIALING
    await organization.save(update_fields=["billing_state"])
    await put_down(TRIAL, {"account_id": account.id}, due_at=now + LEFT_TO_THE_CALLER)


async def change_plan(account: BillingAccount, plan: BillingPlan, *, till: Till) -> BillingAccount:
    """Another plan, the number of seats as it is now. Nothing happens where it is the plan already."""
    async with turn(account):
        account = await refresh(account, till)
        if account.plan == plan or account.subscription_id is None or account.item_id is None:
            return account
        organization_id: int = account.organization_id  # type: ignore[attr-defined]  # a Tortoise column
        seats, key = await count_seats(organization_id), await _next_key(account, "plan")
        await till.gateway.set_plan(account.subscription_id, account.item_id, plan, seats, key=key)
        return await refresh(account, till)


async def cancel(account: BillingAccount, *, reason: str | None, till: Till) -> BillingAccount:
    """End with the period that is paid for. Raises NotCancelable where nothing runs, or it was canceled already."""
    async with turn(account):
        account = await refresh(account, till)
        if await _state_of(account) not in RUNNING or account.cancel_at is not None or account.subscription_id is None:
            raise NotCancelable("There is no running subscription to cancel, or it is canceled already.")
        await till.gateway.end_at_period_end(account.subscription_id, reason=reason)
        return await refresh(account, till)


async def reactivate(account: BillingAccount, *, idempotency_key: str | None, till: Till) -> BillingAccount:
    """Take a cancellation back, or begin anew after the end: charged at once, the cycle counted from today.

    Raises AlreadyActive, CardRequired, CardDeclined; ActionRequired when the bank wants a confirmation.
    """
    async with turn(account):
        account = await refresh(account, till)
        state = await _state_of(account)
        if state in RUNNING:
            return await _take_back(account, idempotency_key, till)
        if account.payment_method_id is None:
            raise CardRequired("Give a card first: createCardSetup, then reactivateSubscription with its id.", path=("setupId",))
        if state is BillingState.INCOMPLETE:
            return await _pay_first(account, await _next_key(account, "confirm"), idempotency_key, till)
        return await _begin_anew(account, idempotency_key, till)


async def pay_open(account: BillingAccount, *, idempotency_key: str | None, till: Till) -> BillingAccount:
    """Charge what is open of the running subscription, or of one that awaits the bank. Raises NotFound where nothing is."""
    async with turn(account):
        account = await refresh(account, till)
        assert account.customer_id is not None
        due = await till.gateway.invoices(account.customer_id, status="open")
        if account.subscription_id not in [invoice.subscription_id for invoice in due]:
            raise NotFound("There is no open invoice: nothing is owed.")
        key = f"pay:{account.id}:{idempotency_key}" if idempotency_key else await _next_key(account, "pay")
        return await cards.pay_open(account, key=key, till=till)


async def _take_back(account: BillingAccount, idempotency_key: str | None, till: Till) -> BillingAccount:
    if idempotency_key is not None and account.last_idempotency_key == idempotency_key:
        return account  # the answer to the first call got lost
    if account.cancel_at is None or account.subscription_id is None:
        raise AlreadyActive("The subscription is running: there is nothing to re-activate.")
    await till.gateway.go_on(account.subscription_id)
    return await refresh(account, till)


async def _begin_anew(account: BillingAccount, idempotency_key: str | None, till: Till) -> BillingAccount:
    await end(account, till)
    organization_id: int = account.organization_id  # type: ignore[attr-defined]  # a Tortoise column
    key = f"reactivate:{organization_id}:{idempotency_key}" if idempotency_key else await _next_key(account, "reactivate")
    seats = await count_seats(organization_id)
    assert account.customer_id is not None
    made = await till.gateway.subscribe_again(
        account.customer_id, BillingPlan(account.plan), seats, organization_id=organization_id, key=key
    )
    account.subscription_id = made.subscription_id
    return await _pay_first(account, key, idempotency_key, till, client_secret=made.client_secret)


async def _pay_first(
    account: BillingAccount, key: str, idempotency_key: str | None, till: Till, *, client_secret: str | None = None
) -> BillingAccount:
    """Charge the first invoice of a new subscription; declined, that subscription is over and nothing has changed."""
    assert account.customer_id is not None
    assert account.subscription_id is not None
    subscription_id = account.subscription_id
    due = next((each for each in await till.gateway.invoices(account.customer_id) if each.subscription_id == subscription_id), None)
    if due is None:
        raise NotFound("There is no open invoice: nothing is owed.")
    try:
        await till.gateway.pay(due.invoice_id, key=f"{key}:pay")
    except GoneAlready:
        pass  # paid: the answer got lost, or the person confirmed meanwhile
    except ActionRequired as asked:
        await refresh(account, till, needs_action=True)
        secret = client_secret or (await till.gateway.invoice(due.invoice_id)).client_secret
        raise ActionRequired(asked.message, client_secret=secret, hosted_url=due.hosted_url) from None
    except (CardDeclined, CardRequired):
        await till.gateway.end_now(subscription_id)
        await refresh(account, till)
        raise
    account = await refresh(account, till)
    await BillingAccount.filter(id=account.id).update(last_idempotency_key=idempotency_key)
    return account


async def end(account: BillingAccount, till: Till) -> None:
    """What was locked is over at the provider too, its open invoices void: to come back is to pay for what comes, not for arrears."""
    locked = account.locked_subscription_id
    if locked is None or account.customer_id is None:
        return
    await till.gateway.end_now(locked)
    await till.gateway.forget_pending(account.customer_id, locked)
    for invoice in await till.gateway.invoices(account.customer_id, status="open"):
        if invoice.subscription_id == locked:
            await till.gateway.void(invoice.invoice_id)


async def end_locked(account_id: int, till: Till) -> None:
    """The promise made when an organization is locked; harmless when it was kept already."""
    account = await BillingAccount.get(id=account_id)
    async with turn(account):
        await account.refresh_from_db()
        await end(account, till)
        await refresh(account, till)


async def _state_of(account: BillingAccount) -> BillingState:
    organization = await Organization.get(id=account.organization_id)  # type: ignore[attr-defined]  # a Tortoise column
    return BillingState(organization.billing_state)


async def _next_key(account: BillingAccount, act: str) -> str:
    """A key that no other act has: counted and committed before the call, so that a repetition by hand is a new act."""
    await execute("UPDATE billing_account SET acts = acts + 1 WHERE id = $1", [account.id])
    await account.refresh_from_db(fields=["acts"])
    return f"{act}:{account.organization_id}:{account.acts}"  # type: ignore[attr-defined]  # a Tortoise column
