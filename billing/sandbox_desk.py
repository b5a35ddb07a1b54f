"""What only the sandbox can do: move a customer's time, and fill in the form of a card page for a program."""

from datetime import UTC, datetime

import httpx

from billing.cards import arrived
from billing.sandbox.app import Sandbox
from billing.sandbox.charging import CARDS
from billing.sandbox.wire import Fault
from billing.seats import send_seats
from billing.till import Till
from errors import ActionRequired, CardDeclined, InvalidInput
from models.billing import BillingAccount, CardSetup

BASE_URL = "http://billing-sandbox"
KEY = "sk_test_billing_sandbox"


class SandboxDesk:
    """One beside the gateway while BILLING=sandbox; its routes and this desk do not exist otherwise."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    async def time_of(self, account: BillingAccount) -> datetime:
        assert account.customer_id is not None
        return datetime.fromtimestamp(await self.sandbox.time_of(account.customer_id), UTC)

    async def advance(self, account: BillingAccount, to: datetime, till: Till) -> None:
        """Move the customer's time; back when all that falls due has happened and been told. Raises InvalidInput for a move backwards."""
        assert account.customer_id is not None
        await send_seats(account.id, till)  # who joined before joined at that time, not at the later one
        await self.sandbox.settled()
        try:
            await self.sandbox.advance(account.customer_id, to)
        except Fault:
            raise InvalidInput("Time goes forward only, one move after the other.", path=("to",)) from None
        await self.sandbox.settled()

    async def complete(self, setup: CardSetup, account: BillingAccount, payment_method: str, till: Till) -> None:
        """Give the setup one of the test cards, by its name. Raises CardDeclined, ActionRequired, InvalidInput."""
        if setup.checkout_session_id is not None:
            await self._submit(f"/checkout/{setup.checkout_session_id}", payment_method)
        elif setup.setup_intent_id is not None:
            shape = await till.gateway.attach_card(setup.setup_intent_id, payment_method)
            if shape.status == "requires_action":
                raise ActionRequired("The bank wants the card's owner to confirm: open the page of a HOSTED setup.")
        await arrived(setup, account, till=till)

    async def _submit(self, path: str, payment_method: str) -> None:
        transport = httpx.ASGITransport(app=self.sandbox)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as browser:
            status = (await browser.post(path, data={"card": payment_method})).status_code
        if status == 402:
            raise CardDeclined("The card was declined: use another one, or ask your bank.", reason="card_declined")
        if status == 400 and payment_method not in CARDS:
            raise InvalidInput("This is no test card's name: take pm_card_visa, for instance.", path=("paymentMethod",))
        if status == 400:
            raise InvalidInput("This setup's page is over, used or expired: make another with createCardSetup.", path=("setupId",))

    async def settled(self) -> None:
        """Wait until what was told so far has been delivered once."""
        await self.sandbox.settled()

    async def run_due(self) -> None:
        """Play what fell due by itself, and deliver what was not delivered yet."""
        await self.sandbox.run_due()
