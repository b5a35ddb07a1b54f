"""What the provider tells us takes effect once, in any order, from nobody else."""

import asyncio
import hmac
import json
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from billing.reconciling import reconcile
from billing.signatures import event_of
from billing.webhook import KINDS, hear
from fleet.billing import paying
from models.billing import BillingAccount, BillingEvent, BillingNotice
from models.operations import Job
from models.organization import Organization
from models.sandbox_billing import SandboxDelivery, SandboxObject
from settings import Settings
from tests.payer import Payer, days, moment, open_payer
from tests.stored import everything
from transport.stripe_webhook import PATH, StripeWebhook

FAILS = "pm_card_chargeCustomerFail"


def sign(payer: Payer, body: bytes, *, secret: str | None = None, at: datetime | None = None) -> str:
    assert payer.house.till is not None
    stamp = int((at or datetime.now(UTC)).timestamp())
    key = secret or payer.house.till.webhook_secrets[0]
    return f"t={stamp},v1={hmac.new(key.encode(), f'{stamp}.'.encode() + body, sha256).hexdigest()}"


async def post(payer: Payer, body: bytes, signature: str | bytes) -> int:
    app = Starlette(routes=StripeWebhook(partial(paying.heard, house=payer.house)).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        header = signature.encode() if isinstance(signature, str) else signature
        return (await client.post(PATH, content=body, headers=[(b"stripe-signature", header)])).status_code


async def told(kind: str) -> list[dict[str, Any]]:
    """The sandbox's events of a kind, as they were sent, oldest first."""
    rows = await SandboxObject.filter(type="event").order_by("number")
    return [row.body for row in rows if row.body["type"] == kind]


async def hold_back(payer: Payer) -> None:
    """From now on nothing is delivered by itself."""
    assert payer.house.till is not None
    assert payer.house.till.desk is not None

    async def nobody(url: str, body: bytes, headers: dict[str, str]) -> int:
        return 0

    payer.house.till.desk.sandbox._deliver = nobody


async def without_moving_parts() -> dict[str, list[str]]:
    stored = await everything()
    return {table: rows for table, rows in stored.items() if not table.startswith("sandbox_") and table not in ("throttle", "token")}


async def past_due(payer: Payer) -> str:
    owner = await payer.found(FAILS)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
    return owner


async def test_a_delivery_that_comes_again_changes_nothing(payer: Payer) -> None:
    owner = await past_due(payer)
    before = await without_moving_parts()

    for event in [row.body for row in await SandboxObject.filter(type="event").order_by("number") if row.body["type"] in KINDS]:
        body = json.dumps(event).encode()
        assert await post(payer, body, sign(payer, body)) == 200

    assert await without_moving_parts() == before
    assert (await payer.billing(owner))["state"] == "PAST_DUE"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_events_twice_and_out_of_order_lead_to_the_same_end(sqlite_payer: Payer, seed: int) -> None:
    payer = sqlite_payer
    assert payer.house.till is not None
    assert payer.house.till.desk is not None
    owner = await payer.found(FAILS)
    ends = moment((await payer.billing(owner))["trialEndsAt"])
    disorder = payer.house.till.desk.sandbox.disorder
    disorder.duplicate, disorder.shuffle = True, random.Random(seed)

    billing = await payer.advance(owner, ends + days(17))
    await payer.act("updateCard", owner, setupId=await payer.setup(owner, "pm_card_visa"))
    back = await payer.act("reactivateSubscription", owner)
    await payer.settled()

    assert billing["state"] == "LOCKED"
    assert back["state"] == "ACTIVE"
    assert (await payer.billing(owner))["state"] == "ACTIVE"
    assert sorted(await BillingNotice.all().values_list("kind", "attempt")) == [
        ("locked", 0),
        ("payment_failed", 1),
        ("payment_failed", 2),
        ("payment_failed", 3),
        ("payment_failed", 4),
        ("receipt", 0),
        ("trial_ending", 0),
    ]
    assert len(await payer.subjects()) == 7


async def test_all_events_of_a_story_told_at_its_end_in_any_order_lead_to_the_same_end(sqlite_payer: Payer) -> None:
    """What is fetched decides: news of a trial that comes after the lock and the return moves nothing back."""
    payer = sqlite_payer
    owner = await payer.found(FAILS)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(17))
    await payer.act("updateCard", owner, setupId=await payer.setup(owner, "pm_card_visa"))
    await payer.act("reactivateSubscription", owner)
    await payer.settled()
    before = await payer.billing(owner)
    mails = await payer.subjects()
    events = [row.body for row in await SandboxObject.filter(type="event")]
    random.Random(7).shuffle(events)

    for number, event in enumerate(events):  # as if none of them had ever been seen
        body = json.dumps(event | {"id": f"evt_again_{number}"}).encode()
        assert await post(payer, body, sign(payer, body)) == 200

    assert await payer.billing(owner) == before
    assert await payer.subjects() == mails


async def test_an_event_of_a_former_subscription_moves_nothing(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    await payer.act("cancelSubscription", owner)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
    await payer.act("reactivateSubscription", owner)
    (old,) = await told("customer.subscription.deleted")
    body = json.dumps(old | {"id": "evt_late"}).encode()

    status = await post(payer, body, sign(payer, body))

    assert status == 200
    assert (await payer.billing(owner))["state"] == "ACTIVE"


@pytest.mark.parametrize("kind", ["forged", "stale", "future", "altered", "unsigned", "no event", "binary", "huge"])
async def test_a_strangers_delivery_is_refused_and_leaves_no_trace(sqlite_payer: Payer, kind: str) -> None:
    payer = sqlite_payer
    await past_due(payer)
    event = (await told("invoice.payment_failed"))[0] | {"id": "evt_forged"}
    body = json.dumps(event).encode()
    now = datetime.now(UTC)
    deliveries: dict[str, tuple[bytes, str | bytes]] = {
        "forged": (body, sign(payer, body, secret="whsec_guess")),
        "stale": (body, sign(payer, body, at=now - timedelta(seconds=310))),
        "future": (body, sign(payer, body, at=now + timedelta(seconds=310))),
        "altered": (body + b" ", sign(payer, body)),
        "unsigned": (body, b""),
        "no event": (b"[1]", sign(payer, b"[1]")),
        "binary": (b"\xff\x00", b"t=\xff,v1=\x00"),
        "huge": (b" " * 1_000_001, sign(payer, body)),
    }
    before = await everything()

    status = await post(payer, *deliveries[kind])

    assert status == 400
    assert await everything() == before


async def test_an_unknown_customer_or_kind_is_taken_note_of_and_no_more(payer: Payer) -> None:
    owner = await past_due(payer)
    known = (await told("invoice.payment_failed"))[0]
    unknown = {**known, "id": "evt_1", "data": {"object": {**known["data"]["object"], "customer": "cus_unknown"}}}
    other = {**known, "id": "evt_2", "type": "invoice.payment_succeeded"}
    before = await payer.billing(owner)

    statuses = [await post(payer, body, sign(payer, body)) for body in (json.dumps(event).encode() for event in (unknown, other))]

    assert statuses == [200, 200]
    assert await payer.billing(owner) == before
    assert await BillingEvent.filter(event_id__in=["evt_1", "evt_2"], handled=False).count() == 2


async def test_fifty_deliveries_of_one_event_at_once_take_effect_once(postgres_payer: Payer) -> None:
    payer = postgres_payer
    owner = await payer.found(FAILS)
    await hold_back(payer)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
    mails = await payer.subjects()
    (failed,) = await told("invoice.payment_failed")
    body = json.dumps(failed).encode()
    await BillingAccount.all().update(version=100)

    statuses = await asyncio.gather(*(post(payer, body, sign(payer, body)) for _ in range(50)))

    assert set(statuses) == {200}
    assert await BillingEvent.filter(event_id=failed["id"]).count() == 1
    assert (await payer.account()).version == 101
    assert len(await payer.subjects()) == len(mails) + 1
    assert (await payer.billing(owner))["state"] == "PAST_DUE"


async def test_fifty_different_events_at_once_end_in_what_the_provider_shows(postgres_payer: Payer) -> None:
    payer = postgres_payer
    owner = await payer.found(FAILS)
    await hold_back(payer)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(10))
    events = [row.body for row in await SandboxObject.filter(type="event").order_by("number")]
    bodies = [json.dumps(event | {"id": f"{event['id']}_{n}"}).encode() for n in range(2) for event in events[-25:]]

    statuses = await asyncio.gather(*(post(payer, body, sign(payer, body)) for body in bodies))

    assert set(statuses) == {200}
    billing = await payer.billing(owner)
    assert (billing["state"], billing["failedAttempts"]) == ("PAST_DUE", 3)
    assert sorted(await BillingNotice.filter(kind="payment_failed").values_list("attempt", flat=True)) == [1, 2, 3]


async def test_a_failure_of_ours_asks_for_the_delivery_again_and_it_then_takes_effect(
    sqlite_payer: Payer, monkeypatch: pytest.MonkeyPatch
) -> None:
    payer = sqlite_payer
    owner = await payer.found(FAILS)
    await hold_back(payer)
    await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
    (failed,) = await told("invoice.payment_failed")
    body = json.dumps(failed).encode()
    assert payer.house.till is not None
    await Organization.all().update(billing_state="TRIALING")
    await BillingNotice.all().delete()
    await BillingEvent.all().delete()
    before = await without_moving_parts()

    with monkeypatch.context() as broken:
        broken.setattr("billing.mirroring._tell_receipts", _fails)
        first = await post(payer, body, sign(payer, body))
        after_the_failure = await without_moving_parts()
    second = await post(payer, body, sign(payer, body))

    assert (first, second) == (500, 200)
    assert after_the_failure == before
    assert (await payer.billing(owner))["state"] == "PAST_DUE"


async def _fails(*_: object) -> None:
    raise RuntimeError("the power is gone")


async def test_lost_deliveries_are_made_up_for(payer: Payer) -> None:
    owner = await payer.found(FAILS)
    await hold_back(payer)
    ends = moment((await payer.billing(owner))["trialEndsAt"])
    await payer.advance(owner, ends + days(5))
    await SandboxDelivery.all().delete()
    await BillingNotice.all().delete()
    assert payer.house.till is not None

    lost = await reconcile(payer.house.till, ends)
    again = await reconcile(payer.house.till, ends)

    assert lost > 0
    assert again == 0
    assert (await payer.billing(owner))["failedAttempts"] == 2
    assert sorted(await BillingNotice.filter(kind="payment_failed").values_list("attempt", flat=True)) == [1, 2]


KILLED = """
import asyncio, dataclasses, json, os, signal, sys
from pathlib import Path
from billing import webhook
from billing.signatures import event_of
from settings import Settings
from tests.payer import open_payer

async def main() -> None:
    settings = Settings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2], secret_key=sys.argv[3], billing="off")
    async with open_payer(settings, process="p2") as payer:
        real = webhook.write

        async def write(*args, **more):
            found = await real(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing is committed
            return found

        webhook.write = write
        await webhook.hear(event_of(json.loads(sys.stdin.read())), payer.house.till)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_process_killed_before_the_commit_leaves_nothing_and_the_next_delivery_does_it(
    request: pytest.FixtureRequest, kind: str
) -> None:
    settings: Settings = request.getfixturevalue(f"migrated_{kind}")
    async with open_payer(settings) as payer:
        owner = await payer.found(FAILS)
        await hold_back(payer)
        await payer.advance(owner, moment((await payer.billing(owner))["trialEndsAt"]) + days(1))
        (failed,) = await told("invoice.payment_failed")
        before = await without_moving_parts()
    arguments = [sys.executable, "-c", KILLED, str(settings.data_dir), settings.database_url, settings.secret_key]

    killed = await asyncio.to_thread(
        subprocess.run,
        arguments,
        input=json.dumps(failed).encode(),
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    async with open_payer(settings, process="p3") as payer:
        after = await without_moving_parts()
        assert payer.house.till is not None
        done = await hear(event_of(failed), payer.house.till)

        assert {table: rows for table, rows in after.items() if "process" not in table} == {
            table: rows for table, rows in before.items() if "process" not in table
        }
        assert done
        assert (await payer.billing(owner))["state"] == "PAST_DUE"
        assert await Job.filter(kind="mail").count() == 1


async def test_a_card_the_operator_takes_away_is_no_longer_shown(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    account = await payer.account()
    assert payer.house.till is not None
    assert account.payment_method_id is not None

    await payer.house.till.gateway.forget_card(account.payment_method_id)
    await payer.settled()

    assert (await payer.billing(owner))["card"] is None


async def test_promises_the_worker_gave_up_are_kept_by_the_nightly_look(payer: Payer) -> None:
    owner = await payer.found("pm_card_visa")
    await payer.member(owner, "bob", "DEVELOPER")
    await Job.all().delete()
    await BillingAccount.all().update(seats_job_due_at=None)
    assert payer.house.till is not None

    await reconcile(payer.house.till, datetime.now(UTC))

    assert await payer.provider_subscriptions() == [("trialing", 2)]
