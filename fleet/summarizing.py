"""The five questions about a fleet: who is online, which customers use it and how, what it runs, and what goes wrong.

Members of the fleet are its ACTIVE devices; quarantined ones are counted apart, denied ones nowhere. Usage and errors are kept by
the UTC day (realtime/tallies.py): a period counts the whole day on which it begins.
Source: guide, introduction.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from models.device import DeviceState
from models.product import Product
from models.sql import read_time, rows

PERIOD = timedelta(days=30)  # what "now and then" means where the caller does not say since when


@dataclass(frozen=True, slots=True)
class Usage:
    """What the devices of one customer did in a period."""

    customer_id: int | None = None
    events: int = 0
    calls: int = 0
    last_active_at: datetime | None = None


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
    return await _count("SELECT COUNT(*) AS n FROM device WHERE product_id = $1 AND state = $2", product.id, state)


async def count_online(product: Product) -> int:
    return await _count(
        """SELECT COUNT(*) AS n FROM presence JOIN device ON device.device_id = presence.device_id
            WHERE presence.online AND device.product_id = $1 AND device.state = $2""",
        product.id,
        DeviceState.ACTIVE,
    )


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


async def usage_of(asked: list[tuple[int, datetime | None]]) -> dict[tuple[int, datetime | None], Usage]:
    """What the devices of single customers did, each since its own moment; customers that did nothing are left out."""
    found = {}
    for since in {since for _, since in asked}:
        begins = since or datetime.now(UTC) - PERIOD
        counted = await rows(
            """SELECT customer_id, SUM(events) AS events, SUM(calls) AS calls, MAX(last_at) AS last_at FROM usage_tally
                WHERE customer_id = ANY($1) AND day >= $2 GROUP BY customer_id""",
            [[customer for customer, moment in asked if moment == since], begins.astimezone(UTC).date()],
        )
        for row in counted:
            usage = Usage(row["customer_id"], int(row["events"]), int(row["calls"]), read_time(row["last_at"]))
            found[row["customer_id"], since] = usage
    return found


async def firmware_versions(product: Product) -> list[Running]:
    """How the fleet is spread over versions as last reported, the newest first, those that never reported last."""
    found = await rows(
        """SELECT firmware_version AS version, COUNT(*) AS devices, COUNT(CASE WHEN presence.online THEN 1 END) AS online
             FROM device LEFT JOIN presence ON presence.device_id = device.device_id
            WHERE device.product_id = $1 AND device.state = $2
            GROUP BY firmware_version ORDER BY firmware_version DESC NULLS LAST""",
        [product.id, DeviceState.ACTIVE],
    )
    return [Running(**row) for row in found]


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
    """When each customer last used a token, or a device of theirs last published or was called; those never seen are left out."""
    found = await rows(
        """SELECT customer_id, MAX(at) AS last_at
             FROM (SELECT customer_id, last_at AS at FROM usage_tally WHERE customer_id = ANY($1)
                   UNION ALL
                   SELECT customer_id, last_used_at FROM token WHERE customer_id = ANY($1) AND last_used_at IS NOT NULL) AS seen
            GROUP BY customer_id""",
        [customer_ids],
    )
    return {row["customer_id"]: read_time(row["last_at"]) for row in found}


def _period(product: Product, since: datetime | None) -> list[Any]:
    """Product, day and moment: the day is what the index knows, the moment leaves out who was last active before it."""
    begins = since or datetime.now(UTC) - PERIOD
    return [product.number, begins.astimezone(UTC).date(), begins]


async def _count(sql: str, *params: Any) -> int:
    (found,) = await rows(sql, params)
    return int(found["n"])
