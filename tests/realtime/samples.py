"""What the tests of this room write and wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from models.customer import Customer
from models.device import Device
from models.log import EntryKind
from models.organization import Organization
from models.product import Product
from models.transaction import transaction
from realtime import log, wakeup
from realtime.log import Entry, NewEntry
from tests.patience import PATIENCE_S

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRODUCT = 1094


def an_event(name: str = "temperature", **changes: Any) -> NewEntry:
    fields = {"product_number": PRODUCT, "kind": EntryKind.EVENT, "name": name, "published_at": NOON}
    return NewEntry(**(fields | changes))


async def append_elsewhere(*names: str, **fields: object) -> list[Entry]:
    """As another process does: the wake-up comes here, the entries do not."""
    async with transaction():
        written = await log.write([an_event(name, **fields) for name in names])
    wakeup.notify(wakeup.LOG)
    return [each.entry for each in written]


def device_id(number: int) -> str:
    return f"{number:024x}"


async def until(condition: Callable[[], Any | Awaitable[Any]], seconds: float = PATIENCE_S) -> Any:
    """The first true value of `condition`. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


async def a_fleet(devices: int = 3) -> Product:
    """An organization with one product and its devices, numbered from 1."""
    organization = await Organization.create(name="Acme", slug="acme", created_at=NOON)
    product = await Product.create(
        number=PRODUCT, organization=organization, slug="thermo", name="Thermo", platform="PHOTON", created_at=NOON
    )
    for number in range(1, devices + 1):
        await Device.create(device_id=device_id(number), product=product, created_at=NOON)
    return product


async def a_customer(product: Product, username: str = "ada@example.com") -> Customer:
    return await Customer.create(product=product, username=username, username_key=username, created_at=NOON)
