"""The vendor's own client, pointed at a sandbox in this process."""

import httpx
import stripe

from billing.sandbox.app import Sandbox

TIMEOUT_S = 10.0  # seconds a call may take
RETRIES = 2  # of a call that got no answer or a 5xx, under one idempotency key
KEY = "sk_test_billing_sandbox"


class InProcess(stripe.HTTPXClient):
    """The SDK's transport without a socket: it takes no transport of ours, so its client is replaced after it is made."""

    def __init__(self, app: Sandbox) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self._client_async = httpx.AsyncClient(transport=httpx.ASGITransport(app=app))


def stripe_client_for(app: Sandbox) -> stripe.StripeClient:
    """A client for this event loop. Raises ImportError where the SDK's async extra is not installed."""
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        KEY, http_client=InProcess(app), base_addresses={"api": "http://billing-sandbox"}, max_network_retries=RETRIES
    )
