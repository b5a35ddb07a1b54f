"""The five questions about a fleet: who is online, which customers use it and how, what it runs, and what goes wrong.

Members of the fleet are its ACTIVE devices; quarantined ones are counted apart, denied ones nowhere. Usage and errors are kept by
the UTC day (realtime/tallies.py): a period counts the whole day on which it begins. `inside`: counted for somebody who sees these
groups alone (fleet/seeing.py).
Source: guide, introduction.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from fleet.devices.counting import Kind, kinds, kinds_inside
from models.device import DeviceState
from models.product import Product
from models.sql import Params, read_time, rows

Inside: TypeAlias = Collection[int] | None
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


async def kinds_of(asked: list[tuple[int, frozenset[int] | None]]) -> dict[tuple[int, frozenset[int] | None], list[Kind]]:
    """Of each product, named by its row, the kinds of devices inside these groups; None: all of the product's."""
    whole = await kinds([product for product, groups in asked if groups is None])
    found = {(product, None): [kind for kind in whole if kind.product_id == product] for product, groups in asked if groups is None}
    return found | {(product, groups): await kinds_inside(product, groups) for product, groups in asked if groups is not None}


def devices_in(found: Sequence[Kind], state: DeviceState) -> int:
    return sum(kind.devices for kind in found if kind.state == state)


def online_in(found: Sequence[Kind]) -> int:
    return sum(kind.online for kind in found if kind.state == DeviceState.ACTIVE)


async def count_active_customers(product: Product, since: datetime | None, *, inside: Inside = None) -> int:
    """Customers whose devices had at least one event or call since then."""
    found = Params(_period(product, since))
    return await _count(
        f"""SELECT COUNT(DISTINCT customer_id) AS n FROM usage_tally
            WHERE product_number = $1 AND day >= $2 AND last_at >= $3{_all_inside("customer_id", inside, found)}""",
        *found,
    )


async def count_inactive_customers(product: Product, since: datetime | None, *, inside: Inside = None) -> int:
    """All the others, those without a device among them."""
    found = Params([*_period(product, since), product.id])
    return await _count(
        f"""SELECT COUNT(*) AS n FROM customer
            WHERE product_id = $4{_all_inside("customer.id", inside, found)}
              AND NOT EXISTS (SELECT 1 FROM usage_tally
                               WHERE product_number = $1 AND day >= $2 AND last_at >= $3 AND customer_id = customer.id)""",
        *found,
    )


async def usage(product: Product, *, most: int, since: datetime | None, inside: Inside = None) -> list[Usage]:
    """The customers that were active since then, the busiest first, at most `most`."""
    params = Params([*_period(product, since), most])
    found = await rows(
        f"""SELECT customer_id, SUM(events) AS events, SUM(calls) AS calls, MAX(last_at) AS last_at FROM usage_tally
            WHERE product_number = $1 AND day >= $2 AND last_at >= $3{_all_inside("customer_id", inside, params)}
            GROUP BY customer_id ORDER BY SUM(events) + SUM(calls) DESC, customer_id LIMIT $4""",
        params,
    )
    return [_usage(row) for row in found]


async def usage_of(asked: list[tuple[int, datetime | None]]) -> dict[tuple[int, datetime | None], Usage]:
    """What the devices of single customers did, each since its own moment; customers that did nothing are left out."""
    found: dict[tuple[int, datetime | None], Usage] = {}
    for since in {since for _, since in asked}:
        begins = since or datetime.now(UTC) - PERIOD
        counted = await rows(
            """SELECT customer_id, SUM(events) AS events, SUM(calls) AS calls, MAX(last_at) AS last_at FROM usage_tally
                WHERE customer_id = ANY($1) AND day >= $2 GROUP BY customer_id""",
            [[customer for customer, moment in asked if moment == since], begins.astimezone(UTC).date()],
        )
        found |= {(row["customer_id"], since): _usage(row) for row in counted}
    return found


def firmware_versions(found: Sequence[Kind]) -> list[Running]:
    """How the fleet is spread over versions as last reported, the newest first, those that never reported last."""
    devices: Counter[int | None] = Counter()
    online: Counter[int | None] = Counter()
    for kind in found:
        if kind.state == DeviceState.ACTIVE:
            devices[kind.firmware_version] += kind.devices
            online[kind.firmware_version] += kind.online
    newest_first = sorted(devices, key=lambda version: version or 0, reverse=True)
    return [Running(version, devices[version], online[version]) for version in newest_first]


async def errors(product: Product, *, most: int, since: datetime | None, inside: Inside = None) -> list[Failing]:
    """What goes wrong, the most frequent first, at most `most` names."""
    params = Params([*_period(product, since), most])
    found = await rows(
        f"""SELECT name, SUM(count) AS count, COUNT(DISTINCT device_id) AS devices, MAX(last_at) AS last_at FROM error_tally
            WHERE product_number = $1 AND day >= $2 AND last_at >= $3{_in_groups(inside, params)}
            GROUP BY name ORDER BY SUM(count) DESC, name LIMIT $4""",
        params,
    )
    return [Failing(row["name"], int(row["count"]), row["devices"], read_time(row["last_at"])) for row in found]


async def is_all_inside(customer_id: int, groups: Collection[int]) -> bool:
    """Whether all that a customer owns is in these groups, and something is: what they do with it is then no news from outside."""
    params = Params([customer_id])
    return bool(await rows(f"SELECT id FROM customer WHERE id = $1{_all_inside('customer.id', groups, params)}", params))


async def last_activity(customer_ids: list[int]) -> dict[int, datetime]:
    """When each customer last used a token, or a device of theirs last published or was called; those never seen are left out."""
    found = await rows(
        """SELECT customer_id, MAX(at) AS last_at
             FROM (SELECT customer_id, last_at AS at FROM usage_tally WHERE customer_id = ANY($1)
                   UNION ALL
                   SELECT id, last_seen_at FROM customer WHERE id = ANY($1) AND last_seen_at IS NOT NULL
                   UNION ALL
                   SELECT customer_id, last_used_at FROM token WHERE customer_id = ANY($1) AND last_used_at IS NOT NULL) AS seen
            GROUP BY customer_id""",
        [customer_ids],
    )
    return {row["customer_id"]: read_time(row["last_at"]) for row in found}


def _usage(row: dict[str, Any]) -> Usage:
    return Usage(row["customer_id"], int(row["events"]), int(row["calls"]), read_time(row["last_at"]))


def _period(product: Product, since: datetime | None) -> list[Any]:
    """Product, day and moment: the day is what the index knows, the moment leaves out who was last active before it."""
    begins = since or datetime.now(UTC) - PERIOD
    return [product.number, begins.astimezone(UTC).date(), begins]


def _in_groups(inside: Inside, params: Params) -> str:
    if inside is None:
        return ""
    ids = params.put(list(inside))
    return f" AND EXISTS (SELECT 1 FROM group_membership AS m WHERE m.device_id = error_tally.device_id AND m.group_id = ANY({ids}))"


def _all_inside(customer: str, inside: Inside, params: Params) -> str:
    """Usage is kept by customer: it is shown only where all that they own is inside, and something is."""
    if inside is None:
        return ""
    ids = params.put(list(inside))
    is_inside = f"EXISTS (SELECT 1 FROM group_membership AS m WHERE m.device_id = owned.device_id AND m.group_id = ANY({ids}))"
    return (
        f" AND EXISTS (SELECT 1 FROM device AS owned WHERE owned.owner_id = {customer})"
        f" AND NOT EXISTS (SELECT 1 FROM device AS owned WHERE owned.owner_id = {customer} AND NOT {is_inside})"
    )


async def _count(sql: str, *params: Any) -> int:
    (found,) = await rows(sql, list(params))
    return int(found["n"])
