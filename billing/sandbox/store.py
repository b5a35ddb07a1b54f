"""The sandbox's objects in our database: one lock for all writers, fresh ids, and the rows by type, customer and clock."""

import secrets
import string
from typing import Any

from billing.sandbox.wire import Body, missing
from models import sql
from models.sandbox_billing import SandboxObject

LETTERS = string.ascii_letters + string.digits
WRITERS = 0x5A4D_B0C5  # the advisory lock of everyone who writes here, in whichever process

KINDS = {  # prefix of the id → type
    "cus": "customer",
    "pm": "payment_method",
    "seti": "setup_intent",
    "pi": "payment_intent",
    "prod": "product",
    "price": "price",
    "sub": "subscription",
    "in": "invoice",
    "evt": "event",
    "we": "webhook_endpoint",
    "clock": "test_helpers.test_clock",
    "cs": "checkout.session",
}


async def lock() -> None:
    """One writer at a time until the transaction ends: a few milliseconds each. SQLite has one anyway."""
    if not sql.is_sqlite():
        await sql.rows("SELECT pg_advisory_xact_lock($1)", [WRITERS])


def fresh_id(prefix: str) -> str:
    return f"{prefix}_{chance()}"


def chance(length: int = 24) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))


async def add(
    body: Body, *, customer: str | None = None, clock: str | None = None, due_at: int | None = None, hidden: Body | None = None
) -> SandboxObject:
    """Keep a new object; its id, type and time of making are those of the body."""
    return await SandboxObject.create(
        id=body["id"],
        type=body["object"],
        customer=customer,
        clock=clock,
        created=body["created"],
        due_at=due_at,
        body=body,
        hidden=hidden or {},
    )


async def get(type: str, id: str | None, *, param: str = "id") -> SandboxObject:
    """Raises Fault: 404 when the path names it, 400 when a parameter does."""
    row = await find(type, id)
    if row is None or row.body.get("deleted"):
        raise missing(type, str(id)[:80], param=param, status=404 if param == "id" else 400)
    return row


async def find(type: str, id: str | None) -> SandboxObject | None:
    return await SandboxObject.get_or_none(type=type, id=id) if id else None


async def anything(id: str) -> SandboxObject | None:
    return await SandboxObject.get_or_none(id=id)


async def keep(row: SandboxObject) -> None:
    await row.save(update_fields=["body", "hidden", "due_at", "clock", "customer"])


async def forget(row: SandboxObject) -> None:
    await row.delete()


async def listing(type: str, **columns: Any) -> list[SandboxObject]:
    """Newest first, as every list of the wire."""
    return await SandboxObject.filter(type=type, **columns).order_by("-number")
