"""Seats follow the team: how many members there are is sent to the provider soon after it changed, never as plus or minus one.

Source: guide, "How billing works"; billing, "Seats and proration".
"""

from datetime import UTC, datetime, timedelta

from billing.mirroring import refresh
from billing.outbox import SEATS, put_down
from billing.till import Till, turn
from models.billing import BillingAccount
from models.organization import Member, Organization
from models.transaction import transaction

SENT_AT_MOST_EVERY = timedelta(seconds=10)
SEATED = ("trialing", "active", "past_due")  # subscriptions whose number of seats means something


async def seats_changed(organization: Organization) -> None:
    """Called inside the transaction that adds or removes a member, which holds the organization's row.

    With billing off there is no account, and nothing to do. One promise at a time: many changes become one message.
    """
    account = await BillingAccount.filter(organization_id=organization.id).first()
    if account is None:
        return
    now = datetime.now(UTC)
    account.seats_version += 1
    account.version += 1
    if account.seats_job_due_at is None:
        account.seats_job_due_at = max(now, account.seats_sent_at + SENT_AT_MOST_EVERY) if account.seats_sent_at else now
        await put_down(SEATS, {"account_id": account.id}, due_at=account.seats_job_due_at)
    await account.save(update_fields=["seats_version", "seats_job_due_at", "version"])


async def count_seats(organization_id: int) -> int:
    """Accepted members; at least one, for the last cannot leave."""
    return max(1, await Member.filter(organization_id=organization_id).count())


async def send_seats(account_id: int, till: Till) -> None:
    """Tell the provider how many members there are now. Raises ProviderUnreachable; done again, it changes nothing."""
    account = await BillingAccount.get(id=account_id)
    async with turn(account):
        seats = await _take(account_id)
        account = await BillingAccount.get(id=account_id)
        if account.subscription_id is None or account.item_id is None or account.provider_status not in SEATED:
            return
        if account.quantity != seats:
            key = f"seats:{account.organization_id}:{account.seats_version}"  # type: ignore[attr-defined]  # a Tortoise column
            await till.gateway.set_seats(account.subscription_id, account.item_id, seats, key=key)
            await refresh(account, till)


async def _take(account_id: int) -> int:
    """Count, and take the promise off: who joins from here on makes another."""
    async with transaction():
        found = await BillingAccount.get(id=account_id)
        organization_id: int = found.organization_id  # type: ignore[attr-defined]  # a Tortoise column
        await Organization.filter(id=organization_id).select_for_update().first()
        await BillingAccount.filter(id=account_id).update(seats_job_due_at=None, seats_sent_at=datetime.now(UTC))
        return await count_seats(organization_id)
