"""The five questions about a fleet: who is online, which customers use it and how, what it runs, and what goes wrong.

Members of the fleet are its ACTIVE devices; quarantined ones are counted apart, denied ones nowhere. Usage and errors are kept by
the UTC day (realtime/tallies.py): a period counts the whole day on which it begins.
Source: guide, introduction.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.counting import kinds
from models.device import DeviceState
from models.product import Product
from models.sql import read_time, rows

PERIOD = timedelta(days=30)  # what "now and then" means where the caller does not say since when


@dataclass(frozen=True, slots=True)
class Usage:
    """What the devices of one customer did in a period."""

    customer_id: int
    events: int
    calls: int
    last_active_at: datetime


@dataclass(frozen=True, slots=True)
class Running:
    """How many devices reported a firmware version; None are those that never reported any."""

    version: int | None
    devices: int
    online: int


@dataclass(frozen=True, slots=True)
class Failing:
    """Events of one name that begins with error or exception, in a period."""

    name: str
    count: int
    devices: int
    last_at: datetime


async def count_devices(product: Product, state: DeviceState) -> int:
    return sum(kind.devices for kind in await kinds([product.id]) if kind.state == state)


async def count_online(product: Product) -> int:
    return sum(kind.online for kind in await kinds([product.id]) if kind.state == DeviceState.ACTIVE)


async def count_active_customers(product: Product, since: datetime | None) -> int:
    """Customers whose devices had at least one event or call since then."""
    return await _count(
        """SELECT COUNT(DISTINCT customer_id) AS n FROM usage_tally
            WHERE product_number = $1 AND day >= $2 AND last_at >= $3""",
        *_period(product, since),
    )


async def count_inactive_customers(product: Product, since: datetime | None) -> int:
    """All the others, those without a device among them."""
    return await _count(
        """SELECT COUNT(*) AS n FROM customer
            WHERE product_id = $4
              AND NOT EXISTS (SELECT 1 FROM usage_tally
                               WHERE product_number = $1 AND day >= $2 AND last_at >= $3 AND customer_id = customer.id)""",
        *_period(product, since),
        product.id,
    )


async def usage(product: Product, *, most: int, since: datetime | None) -> list[Usage]:
    """The customers that were active since then, the busiest first, at most `most`."""
    found = await rows(
        """SELECT customer_id, SUM(events) AS events, SUM(calls) AS calls, MAX(last_at) AS last_at FROM usage_tally
            WHERE product_number = $1 AND day >= $2 AND last_at >= $3
            GROUP BY customer_id ORDER BY SUM(events) + SUM(calls) DESC, customer_id LIMIT $4""",
        [*_period(product, since), most],
    )
    return [Usage(row["customer_id"], int(row["events"]), int(row["calls"]), read_time(row["last_at"])) for row in found]


async def firmware_versions(product: Product) -> list[Running]:
    """How the fleet is spread over versions as last reported, the newest first, those that never reported last."""
    devices: Counter[int | None] = Counter()
    online: Counter[int | None] = Counter()
    for kind in await kinds([product.id]):
        if kind.state == DeviceState.ACTIVE:
            devices[kind.firmware_version] += kind.devices
            online[kind.firmware_version] += kind.online
    newest_first = sorted(devices, key=lambda version: version or 0, reverse=True)
    return [Running(version, devices[version], online[version]) for version in newest_first]


async def errors(product: Product, *, most: int, since: datetime | None) -> list[Failing]:
    """What goes wrong, the most frequent first, at most `most` names."""
    found = await rows(
        """SELECT name, SUM(count) AS count, COUNT(DISTINCT device_id) AS devices, MAX(last_at) AS last_at FROM error_tally
            WHERE product_number = $1 AND day >= $2 AND last_at >= $3
            GROUP BY name ORDER BY SUM(count) DESC, name LIMIT $4""",
        [*_period(product, since), most],
    )
    return [Failing(row["name"], int(row["count"]), row["devices"], read_time(row["last_at"])) for row in found]


async def last_activity(customer_ids: list[int]) -> dict[int, datetime]:
    """When a device of each customer last published or was called; customers of whom nothing was ever seen are left out."""
    found = await rows(
        "SELECT customer_id, MAX(last_at) AS last_at FROM usage_tally WHERE customer_id = ANY($1) GROUP BY customer_id", [customer_ids]
    )
    return {row["customer_id"]: read_time(row["last_at"]) for row in found}


def _period(product: Product, since: datetime | None) -> list[Any]:
    """Product, day and moment: the day is what the index knows, the moment leaves out who was last active before it."""
    begins = since or datetime.now(UTC) - PERIOD
    return [product.number, begins.astimezone(UTC).date(), begins]


async def _count(sql: str, *params: Any) -> int:
    (found,) = await rows(sql, params)
    return int(found["n"])
