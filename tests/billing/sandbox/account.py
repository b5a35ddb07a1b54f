"""One billing account to try scenarios on: the sandbox on each database, or a real test account of the provider."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

START = 1_767_225_600  # 1 January 2026, 00:00 UTC
DAY = 86_400  # seconds
HOUR = 3_600  # seconds
MONTHLY = 4900  # cents a seat
ANNUAL = 58_800  # cents a seat


@dataclass
class Payer:
    """A customer on a clock of their own."""

    id: str
    clock: str


@dataclass
class Account:
    """`v1` is the vendor's own client; `move` brings a test clock to a time and returns when it is there."""

    v1: Any
    move: Callable[[str, int], Awaitable[None]]
    start: int = START
    prices: dict[str, str] = field(default_factory=dict)

    async def price(self, interval: str = "month", amount: int | None = None) -> str:
        """The id of a price of this account, made at the first call."""
        amount = amount or (MONTHLY if interval == "month" else ANNUAL)
        key = f"{interval}:{amount}"
        if key not in self.prices:
            product = await self.v1.products.create_async({"name": "Team Plan"})
            asked = {"product": product["id"], "currency": "usd", "unit_amount": amount, "recurring": {"interval": interval}}
            self.prices[key] = (await self.v1.prices.create_async(asked))["id"]
        return self.prices[key]

    async def payer(self, card: str | None = "pm_card_visa") -> Payer:
        """A new customer; with `card` as default, if there is one."""
        clock = await self.v1.test_helpers.test_clocks.create_async({"frozen_time": self.start, "name": f"flotilla {uuid.uuid4().hex[:8]}"})
        customer = await self.v1.customers.create_async({"email": "ann@example.com", "test_clock": clock["id"]})
        payer = Payer(customer["id"], clock["id"])
        if card:
            await self.give_card(payer, card)
        return payer

    async def give_card(self, payer: Payer, card: str) -> str:
        method = await self.v1.payment_methods.attach_async(card, {"customer": payer.id})
        await self.v1.customers.update_async(payer.id, {"invoice_settings": {"default_payment_method": method["id"]}})
        return str(method["id"])

    async def trial(self, payer: Payer, *, seats: int = 1, days: int = 30, interval: str = "month") -> Any:
        """As our gateway begins one."""
        return await self.v1.subscriptions.create_async(
            {
                "customer": payer.id,
                "items": [{"price": await self.price(interval), "quantity": seats}],
                "trial_period_days": days,
                "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}},
                "payment_behavior": "default_incomplete",
                "off_session": True,
                "billing_mode": {"type": "flexible"},
                "metadata": {"org_id": "1"},
                "expand": ["latest_invoice"],
            }
        )

    async def subscribe(self, payer: Payer, *, seats: int = 1, interval: str = "month", pay: bool = True) -> Any:
        """As our gateway brings a team back: the first invoice is paid by a call of its own."""
        made = await self.v1.subscriptions.create_async(
            {
                "customer": payer.id,
                "items": [{"price": await self.price(interval), "quantity": seats}],
                "payment_behavior": "default_incomplete",
                "billing_mode": {"type": "flexible"},
                "metadata": {"org_id": "1"},
                "expand": ["latest_invoice.confirmation_secret"],
            }
        )
        if not pay:
            return made
        await self.v1.invoices.pay_async(made["latest_invoice"]["id"])
        return await self.subscription(made["id"])

    async def subscription(self, id: str) -> Any:
        return await self.v1.subscriptions.retrieve_async(id)

    async def seats(self, subscription: Any, seats: int, **more: Any) -> Any:
        item = {"id": subscription["items"]["data"][0]["id"], "quantity": seats, **more}
        asked = {"items": [item], "proration_behavior": "create_prorations"}
        return await self.v1.subscriptions.update_async(subscription["id"], asked)

    async def preview(self, payer: Payer, subscription: Any, **item: Any) -> Any:
        details = {"items": [{"id": subscription["items"]["data"][0]["id"], **item}]} if item else {}
        asked = {"customer": payer.id, "subscription": subscription["id"]}
        return await self.v1.invoices.create_preview_async(asked | ({"subscription_details": details} if details else {}))

    async def invoices(self, payer: Payer) -> list[Any]:
        """Newest first."""
        found = await self.v1.invoices.list_async({"customer": payer.id, "limit": 100})
        return list(found.data)

    async def told(self, payer: Payer) -> list[str]:
        """The types of every event about this customer, oldest first."""
        found = await self.v1.events.list_async({"limit": 100})
        bodies = [(event["type"], event["data"]["object"]) for event in found.data]
        mine = [kind for kind, body in bodies if payer.id == (body["customer"] if "customer" in body else body["id"])]
        return mine[::-1]


def end_of(subscription: Any) -> int:
    return int(subscription["items"]["data"][0]["current_period_end"])


def amounts(invoice: Any) -> list[int]:
    return [line["amount"] for line in invoice["lines"]["data"]]


async def arrive(v1: Any, clock: str, to: int, *, pause_s: float) -> None:
    """Move a test clock by the API and wait until it is there, as on the real thing."""
    await v1.test_helpers.test_clocks.advance_async(clock, {"frozen_time": to})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (await v1.test_helpers.test_clocks.retrieve_async(clock))["status"] == "ready":
            return
        await asyncio.sleep(pause_s)
    raise AssertionError("The test clock did not arrive within two minutes.")
