"""Events and their delivery: signed, repeated until answered with 2xx, and, for tests, twice and out of order."""

import hashlib
import hmac
import json
import logging
import random
from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

import httpx
import stripe

from billing.sandbox import store
from billing.sandbox.moment import Moment
from billing.sandbox.wire import Body
from models.sandbox_billing import SandboxDelivery, SandboxObject
from models.transaction import transaction

log = logging.getLogger(__name__)

# Takes an address, the body and the headers; returns the status, 0 when nobody answered.
Deliver: TypeAlias = Callable[[str, bytes, dict[str, str]], Awaitable[int]]

FIRST_PAUSES_S = (1, 10, 60)  # seconds after the first, second and third attempt
LATER_PAUSE_S = 600  # seconds after each further one
GIVE_UP_S = 86400  # seconds after the first attempt
ANSWER_S = 10.0  # seconds an endpoint has to answer
LEASE_S = 30  # seconds a process that took a delivery has for it; after them another may
KEPT_S = 30 * 86400  # seconds an event can be asked for
BATCH = 100  # deliveries read at a time


@dataclass
class Disorder:
    """A switch for tests: what is delivered comes twice, and in any order."""

    duplicate: bool = False
    shuffle: random.Random | None = None


async def emit(type: str, row: SandboxObject, moment: Moment, *, before: Body | None = None) -> None:
    """Keep an event about `row` and put it on its way to every endpoint that wants it. `before` is the body it had: what changed is told.

    An update that changed nothing is no event.
    """
    data: Body = {"object": deepcopy(row.body)}
    if before is not None:
        data["previous_attributes"] = {key: value for key, value in before.items() if row.body.get(key) != value}
        if not data["previous_attributes"] and before.keys() == row.body.keys():
            return
    endpoints = [endpoint for endpoint in await store.listing("webhook_endpoint") if _wants(endpoint.body, type)]
    event: Body = {
        "id": store.fresh_id("evt"),
        "object": "event",
        "account": None,
        "api_version": stripe.api_version,
        "created": moment.at,
        "data": data,
        "livemode": False,
        "pending_webhooks": len(endpoints),
        "request": {"id": None, "idempotency_key": None},
        "type": type,
    }
    customer = row.id if row.type == "customer" else row.customer
    kept = await store.add(event, customer=customer, clock=row.clock)
    for endpoint in reversed(endpoints):
        await SandboxDelivery.create(event=kept.id, endpoint=endpoint.id, first_at=moment.wall, due_at=moment.wall)


def _wants(endpoint: Body, type: str) -> bool:
    return not endpoint.get("deleted") and endpoint["status"] == "enabled" and bool({type, "*"} & set(endpoint["enabled_events"]))


async def deliver_due(now: int, deliver: Deliver, disorder: Disorder) -> int:
    """One attempt for each delivery that is due, oldest first; how many were answered with 2xx."""
    batch = await SandboxDelivery.filter(due_at__lte=now).order_by("id").limit(BATCH)
    if disorder.duplicate:
        batch = [each for each in batch for _ in range(2)]
    if disorder.shuffle:
        disorder.shuffle.shuffle(batch)
    attempted: set[int] = set()
    answered = 0
    for each in batch:
        if each.id not in attempted and not await _taken(each, now):
            continue  # another process has it
        attempted.add(each.id)
        answered += await _attempt(each, now, deliver)
    return answered


async def are_under_way(now: int) -> bool:
    """Whether somebody has taken a delivery that was never attempted before, and not heard the answer yet."""
    return await SandboxDelivery.filter(attempts=0, due_at__gt=now).exists()


async def _taken(delivery: SandboxDelivery, now: int) -> bool:
    taken = await SandboxDelivery.filter(id=delivery.id, due_at=delivery.due_at).update(due_at=now + LEASE_S)
    return bool(taken)


async def _attempt(delivery: SandboxDelivery, now: int, deliver: Deliver) -> bool:
    event = await store.find("event", delivery.event)
    endpoint = await store.find("webhook_endpoint", delivery.endpoint)
    if event is None or endpoint is None or endpoint.body.get("deleted"):
        await SandboxDelivery.filter(id=delivery.id).update(due_at=None)
        return False
    body = json.dumps(event.body, separators=(",", ":")).encode()
    headers = {"content-type": "application/json; charset=utf-8", "stripe-signature": sign(body, endpoint.hidden["secret"], now)}
    try:
        status = await deliver(endpoint.body["url"], body, headers)
    except Exception:  # the edge to somebody else's door: what it does is not our failure
        log.exception("A webhook could not be delivered.")
        status = 0
    await _note(delivery, now, status)
    return 200 <= status < 300


async def _note(delivery: SandboxDelivery, now: int, status: int) -> None:
    delivery.attempts += 1
    answered = 200 <= status < 300
    async with transaction():
        rest = SandboxDelivery.filter(id=delivery.id, delivered_at=None)  # a duplicate must not wake what has arrived
        await rest.update(
            attempts=delivery.attempts,
            status=status,
            due_at=None if answered else _next_attempt(delivery, now),
            delivered_at=now if answered else None,
        )


def _next_attempt(delivery: SandboxDelivery, now: int) -> int | None:
    done = delivery.attempts
    pause = FIRST_PAUSES_S[done - 1] if done <= len(FIRST_PAUSES_S) else LATER_PAUSE_S
    return now + pause if now + pause <= delivery.first_at + GIVE_UP_S else None


def sign(body: bytes, secret: str, at: int) -> str:
    """The signature header: HMAC-SHA-256 of time and body."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


async def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Deliver over the network, following no redirect."""
    async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False) as client:
        try:
            return (await client.post(url, content=body, headers=headers)).status_code
        except httpx.HTTPError:
            return 0


async def forget(now: int) -> None:
    """Events of the wall's clock and finished deliveries are kept for 30 days; those of a test clock as long as it."""
    await SandboxDelivery.filter(due_at=None, first_at__lt=now - KEPT_S).delete()
    await SandboxObject.filter(type="event", clock=None, created__lt=now - KEPT_S).delete()
