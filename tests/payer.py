"""A house that bills through its sandbox, and what every story of paying needs."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fleet.billing import paying
from models.billing import BillingAccount, BillingEvent
from models.operations import Job
from settings import Settings
from tests.house import HouseTester, open_house
from worker import HANDLERS

BILLING = """
  state mode plan seats unitAmount currency trialEndsAt currentPeriodEnd cancelAt accessUntil failedAttempts nextPaymentAttempt
  card { brand last4 }
"""
INVOICES = "invoices { nodes { number total status attempts hostedUrl lines { description amount quantity proration } } }"


@dataclasses.dataclass
class Payer(HouseTester):
    """A tester whose house bills; `slug` is the organization of its stories."""

    slug: str = "acme"

    async def found(self, card: str | None = "pm_card_visa", plan: str = "TEAM_MONTHLY", name: str = "ann") -> str:
        """The token of a new owner whose organization has begun its trial, with this test card on file."""
        token = await self.person(name)
        input: dict[str, Any] = {"name": self.slug.title(), "plan": plan}
        if card is not None:
            input["cardSetupId"] = await self.setup(token, card, organization=None)
        payload = await self.do("createOrganization", "organization { slug }", token, **input)
        assert payload["errors"] == []
        await self.settled()
        return token

    async def setup(self, token: str, card: str, *, organization: str | None = "acme", flow: str = "HOSTED") -> str:
        """The id of a card setup through which this test card has come."""
        made = await self.do("createCardSetup", "setup { id hostedUrl clientSecret }", token, flow=flow, organization=organization)
        assert made["errors"] == [], made
        done = await self.do("completeSandboxCardSetup", "setup { id }", token, setupId=made["setup"]["id"], paymentMethod=card)
        assert done["errors"] == [], done
        return str(made["setup"]["id"])

    async def billing(self, token: str, fields: str = BILLING) -> dict[str, Any]:
        answer = await self.ask(f'{{ organization(slug: "{self.slug}") {{ billing {{ {fields} }} }} }}', token)
        found: dict[str, Any] = answer["organization"]["billing"]
        return found

    async def invoices(self, token: str) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = (await self.billing(token, INVOICES))["invoices"]["nodes"]
        return found

    async def advance(self, token: str, to: datetime) -> dict[str, Any]:
        payload = await self.do("advanceSandboxClock", f"billing {{ {BILLING} }}", token, organization=self.slug, to=to.isoformat())
        assert payload["errors"] == [], payload
        found: dict[str, Any] = payload["billing"]
        return found

    async def act(self, mutation: str, token: str, **input: Any) -> dict[str, Any]:
        """A billing mutation that must be done; its `billing`."""
        payload = await self.do(mutation, f"billing {{ {BILLING} }}", token, organization=self.slug, **input)
        assert payload["errors"] == [], payload
        found: dict[str, Any] = payload["billing"]
        return found

    async def adopt(self) -> list[str]:
        return await paying.adopt_exempt(house=self.house)

    async def hang_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on the provider does not answer."""
        assert self.house.till is not None

        async def nobody(*_: object, **__: object) -> None:
            raise httpx.ConnectError("nobody answers")

        monkeypatch.setattr(self.house.till.gateway._http._client_async, "request", nobody)
        monkeypatch.setattr(self.house.till.gateway._http, "sleep_async", lambda _: asyncio.sleep(0))

    async def settled(self) -> None:
        assert self.house.till is not None
        assert self.house.till.desk is not None
        await self.house.till.desk.settled()

    async def confirm(self, hosted_url: str) -> None:
        """Press the button on a page of the sandbox, as the card's owner does."""
        assert self.house.till is not None
        assert self.house.till.desk is not None
        transport = httpx.ASGITransport(app=self.house.till.desk.sandbox)
        async with httpx.AsyncClient(transport=transport) as browser:
            answer = await browser.post(hosted_url.replace("/billing-sandbox", ""), data={"answer": "yes"})
        assert answer.status_code == 200
        await self.settled()

    async def work(self) -> None:
        """Do every promise of billing, due or not, as the worker does; mails stay to be read."""
        for job in await Job.filter(done_at=None, kind__startswith="billing-").order_by("id"):
            await HANDLERS[job.kind](job.payload, self.house)
            await Job.filter(id=job.id).update(done_at=datetime.now(UTC))
        await self.settled()

    async def now(self) -> datetime:
        """The organization's billing time."""
        assert self.house.till is not None
        assert self.house.till.desk is not None
        return await self.house.till.desk.time_of(await self.account())

    async def provider_subscriptions(self) -> list[tuple[str, int]]:
        """Status and seats of every subscription the provider has, newest first."""
        assert self.house.till is not None
        customer_id = (await self.account()).customer_id
        assert customer_id is not None
        return [(each.status, each.quantity) for each in await self.house.till.gateway.subscriptions(customer_id)]

    async def account(self) -> BillingAccount:
        return await BillingAccount.get(organization__slug=self.slug)

    async def subjects(self) -> list[str]:
        """What was mailed so far, oldest first."""
        return [letter.subject for letter in await self.letters()]

    async def heard(self) -> list[str]:
        return [event.kind for event in await BillingEvent.filter(handled=True).order_by("received_at")]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def days(count: float) -> timedelta:
    return timedelta(days=count)


@asynccontextmanager
async def open_payer(settings: Settings, *, process: str = "p1", **more: Any) -> AsyncIterator[Payer]:
    """Its sandbox's clock stands still between two moves, so that sums are exact to the second however slow the test is.

    It stands a little in the future: deliveries are due, and their signatures good.
    """
    async with open_house(dataclasses.replace(settings, billing="sandbox", **more), process=process) as house:
        assert house.till is not None
        assert house.till.desk is not None
        stands_at = int(time.time()) + 200
        house.till.desk.sandbox._now = lambda: stands_at
        yield Payer(house)
