"""Opening the till at start-up: the payment provider, its sandbox in this process, or nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from auth.keys import derive_key
from auth.sealing import Sealer
from billing.outbox import RECONCILE, put_down
from billing.sandbox.app import Sandbox, sandbox_app
from billing.sandbox.webhooks import Deliver
from billing.sandbox_desk import BASE_URL, KEY, SandboxDesk
from billing.stripe_client import StripeGateway
from billing.till import Till
from billing.webhook import KINDS
from fleet.billing.news import BillingNews
from models.billing import BillingAccount
from models.transaction import transaction
from settings import Settings, SettingsRefused

ENDPOINT = "http://flotilla.invalid/stripe/webhook"  # never resolved: deliveries stay in this process


@asynccontextmanager
async def open_till(settings: Settings, sealer: Sealer, *, deliver: Deliver) -> AsyncIterator[Till | None]:
    """On an open database; None with billing off. `deliver` brings the sandbox's webhooks to our own door.

    Raises SettingsRefused when organizations pay in another mode than the settings say.
    """
    await _refuse_another_mode(settings)
    news = BillingNews(sealer, settings.public_url)
    if settings.billing == "off":
        yield None
    elif settings.billing == "stripe":
        gateway = StripeGateway(settings.stripe_api_key)
        try:
            async with transaction():
                await put_down(RECONCILE, {})
            yield Till(gateway, settings, news, settings.stripe_webhook_secrets)
        finally:
            await gateway.close()
    else:
        async with _open_sandbox(settings, news, deliver) as till:
            yield till


@asynccontextmanager
async def _open_sandbox(settings: Settings, news: BillingNews, deliver: Deliver) -> AsyncIterator[Till]:
    secret = f"whsec_{derive_key(settings.secret_key, 'billing-sandbox-webhook').hex()}"
    sandbox = sandbox_app(settings, deliver=deliver)
    gateway = StripeGateway(KEY, app=sandbox, base_url=BASE_URL)
    try:
        await sandbox.endpoint(ENDPOINT, secret=secret, events=tuple(sorted(KINDS)))
        yield Till(gateway, settings, news, (secret,), SandboxDesk(sandbox))
        await sandbox.settled()
    finally:
        await gateway.close()


def sandbox_of(till: Till | None) -> Sandbox | None:
    """What is mounted at /billing-sandbox; nothing unless BILLING=sandbox."""
    return till.desk.sandbox if till and till.desk else None


async def _refuse_another_mode(settings: Settings) -> None:
    """An organization that pays in one mode does not silently cease to pay, or begin to pay real money, in another."""
    other = await BillingAccount.exclude(mode=settings.billing).exclude(organization_id=None).first()
    if other is not None:
        raise SettingsRefused(
            f"Organizations of this database pay with BILLING={other.mode}, but BILLING={settings.billing} is set:"
            " set it back, or use another database."
        )
