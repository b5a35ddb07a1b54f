"""The accounts that scenarios run on; the real one needs STRIPE_TEST_KEY and is skipped, never passed, without it."""

import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import stripe

from billing.sandbox.app import Sandbox, sandbox_app
from billing.sandbox.client import stripe_client_for
from models.database import database
from settings import Settings
from tests.billing.sandbox.account import DAY, Account, arrive

LIVE = pytest.param("live", marks=pytest.mark.stripe_live)


@dataclass
class Mailbox:
    """Where webhooks arrive; `answers` are the statuses still to give, then 200."""

    received: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def __call__(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        self.received.append((url, body, headers))
        return self.answers.pop(0) if self.answers else 200


class Wall:
    """The clock on the wall, which a test may move."""

    def __init__(self) -> None:
        self.at = int(time.time())

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=["sqlite", "postgres"])
def sandbox_settings(request: pytest.FixtureRequest) -> Settings:
    chosen: Settings = request.getfixturevalue(f"migrated_{request.param}")
    return chosen


@pytest.fixture
async def sandbox(sandbox_settings: Settings, mailbox: Mailbox, wall: Wall) -> AsyncIterator[Sandbox]:
    """On each kind of database; every answer is checked against the vendor's own types."""
    async with database(sandbox_settings):
        app = sandbox_app(sandbox_settings, deliver=mailbox, now=wall, check_answers=True)
        yield app
        await app.settled()


@pytest.fixture
def account(sandbox: Sandbox) -> Account:
    return Account(stripe_client_for(sandbox).v1, move=sandbox.advance)


@pytest.fixture(params=["sqlite", "postgres", LIVE])
async def anywhere(request: pytest.FixtureRequest, mailbox: Mailbox) -> AsyncIterator[Account]:
    """The sandbox on each database, and the real thing: what a scenario says must hold on all three."""
    if request.param == "live":
        yield _real_account()
        return
    settings = request.getfixturevalue(f"migrated_{request.param}")
    async with database(settings):
        app = sandbox_app(settings, deliver=mailbox, check_answers=True)
        v1 = stripe_client_for(app).v1
        yield Account(v1, move=lambda clock, to: arrive(v1, clock, to, pause_s=0.01))
        await app.settled()


def _real_account() -> Account:
    key = os.environ.get("STRIPE_TEST_KEY", "")
    if not key:
        pytest.skip("STRIPE_TEST_KEY is not set: nothing was asked of the real thing.")
    if not key.startswith(("sk_test_", "rk_test_")):
        pytest.fail("STRIPE_TEST_KEY must be a test key: sk_test_… or rk_test_…")
    stripe.enable_telemetry = False
    v1: Any = stripe.StripeClient(key, http_client=stripe.HTTPXClient(timeout=30), max_network_retries=2).v1
    return Account(v1, move=lambda clock, to: arrive(v1, clock, to, pause_s=1), start=int(time.time()) // DAY * DAY)
