"""Making up for deliveries that were lost: events of the last days that we never saw, and a fresh look at whoever is not settled.

Source: billing, "Webhooks", 8.
"""

import logging
from datetime import datetime, timedelta

from billing.dunning import LIVING
from billing.mirroring import refresh
from billing.seats import SEATED, count_seats, send_seats
from billing.signatures import event_of
from billing.stripe_client import GoneAlready
from billing.subscribing import end_locked, start_trial
from billing.till import Till, turn
from billing.webhook import hear
from models.billing import BillingAccount, BillingEvent
from models.organization import BillingState

log = logging.getLogger(__name__)

LOOK_BACK = timedelta(days=4)  # the provider itself tries for three
SETTLED = [state.value for state in (BillingState.ACTIVE, BillingState.INACTIVE, BillingState.LOCKED, BillingState.EXEMPT)]


async def reconcile(till: Till, now: datetime) -> int:
    """At start and every night, harmless at any time; the number of events that had been lost."""
    lost = await _fill_gaps(till, now - LOOK_BACK)
    unsettled = BillingAccount.filter(mode=till.settings.billing, customer_id__not_isnull=True)
    for account in await unsettled.exclude(organization__billing_state__in=SETTLED).exclude(organization_id=None).order_by("id"):
        try:
            async with turn(account):
                await refresh(account, till)
        except GoneAlready:
            log.warning("Billing account %s has no customer at the provider any more.", account.id)
    await _keep_promises(till)
    return lost


async def _keep_promises(till: Till) -> None:
    """What the worker gave up after an hour of trying, because the provider was away for longer."""
    held = BillingAccount.filter(mode=till.settings.billing, customer_id__not_isnull=True, organization_id__not_isnull=True)
    for account in await held.filter(subscription_id=None):
        await start_trial(account.id, till)
    for account in await held.filter(locked_subscription_id__not_isnull=True, provider_status__in=LIVING):
        if account.locked_subscription_id == account.subscription_id:
            await end_locked(account.id, till)
    for account in await held.filter(provider_status__in=SEATED, seats_job_due_at=None):
        if account.quantity != await count_seats(account.organization_id):  # type: ignore[attr-defined]  # a Tortoise column
            await send_seats(account.id, till)


async def _fill_gaps(till: Till, since: datetime) -> int:
    """Oldest first, as they would have come."""
    found = [event_of(each) async for each in till.gateway.events(since=since)]
    known = {each.event_id for each in await BillingEvent.filter(event_id__in=[each.event_id for each in found]).only("event_id")}
    return sum([await hear(each, till) for each in reversed(found) if each.event_id not in known])
