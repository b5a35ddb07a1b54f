"""How many devices a product has, of which state and version, how many are online, and how many are in each group: kept, not counted.

Triggers add a part for every change, in its own transaction (migrations 0002 and 0003); the sum of the parts is the number at any
moment, and a read costs the same for ten devices and a million.
Source: performance, "counts"; ADR 15.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from models.device import DeviceState
from models.sql import execute, is_sqlite, rows
from models.transaction import transaction

PARTS_MAX = 100  # of a product or a group before they are folded; some hundred rows are read in a tenth of a millisecond


@dataclass(frozen=True, slots=True)
class Kind:
    """How many devices are alike, and how many of them are online. `proven`: they reported this version as the product themselves."""

    product_id: int  # the row, not the number
    state: DeviceState
    firmware_version: int | None
    proven: bool
    devices: int
    online: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A kind whose number is wrong: devices and those online, as kept and as they are."""

    product_id: int
    state: DeviceState
    firmware_version: int | None
    kept: tuple[int, int]
    counted: tuple[int, int]


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """A group whose number of devices, those of groups inside it among them, is wrong."""

    product_id: int
    path: str
    kept: int
    counted: int


async def kinds(product_ids: Collection[int]) -> list[Kind]:
    """What the products have; kinds of which there is no device are left out."""
    return [_kind(row) for row in await rows(_KEPT, [list(product_ids)])]


async def kinds_inside(product_id: int, groups: Collection[int]) -> list[Kind]:
    """The same for somebody who sees these groups alone: counted."""
    return [_kind(row) for row in await rows(_INSIDE, [product_id, list(groups)])]


async def in_group(group_id: int) -> int:
    """How many devices are in the group and in all groups inside it, each once."""
    return int((await rows(_IN_GROUP, [group_id]))[0]["devices"])


async def differences() -> list[Difference]:
    """Where kept and counted are not the same, as of one moment. Reads every device: for the operator's `recount`, not for requests."""
    return [
        Difference(
            row["product_id"], row["state"], row["firmware_version"], (row["kept"], row["kept_online"]), (row["there"], row["online"])
        )
        for row in await rows(_DIFFERENCES)
    ]


async def differences_of_groups() -> list[GroupDifference]:
    """The same of the groups. Reads every membership."""
    sql = f"SELECT product_id, path, kept, counted FROM ({_GROUPS}) AS each_group WHERE kept <> counted ORDER BY product_id, path"
    return [GroupDifference(**row) for row in await rows(sql)]


async def repair() -> None:
    """Make the kept numbers the counted ones, while the server goes on: what is written meanwhile only adds to them."""
    async with transaction():
        if is_sqlite():  # which keeps one row a kind, and one a group
            await execute("DELETE FROM device_tally")
            await execute("DELETE FROM group_tally")
        await execute(f"INSERT INTO device_tally ({_KIND}, devices, online) {_MISSING}")
        await execute(f"INSERT INTO group_tally (group_id, devices) SELECT id, counted - kept FROM ({_GROUPS}) AS each_group")


async def fold() -> None:
    """Make one part of many, where there are many. Several processes may do it at once: each part is taken by one of them."""
    if not is_sqlite():  # which keeps one row
        await execute(_FOLD, [PARTS_MAX])
        await execute(_FOLD_GROUPS, [PARTS_MAX])


_KIND = "product_id, state, firmware_version, proven"
_SUM = f"SELECT {_KIND}, SUM(devices) AS devices, SUM(online) AS online"
_BY_KIND = f"GROUP BY {_KIND} HAVING SUM(devices) <> 0 OR SUM(online) <> 0"
_KEPT = f"{_SUM} FROM device_tally WHERE product_id = ANY($1) {_BY_KIND}"
_FOLD = f"""
    WITH many AS (SELECT product_id FROM device_tally GROUP BY product_id HAVING COUNT(*) > $1),
         taken AS (DELETE FROM device_tally WHERE product_id IN (SELECT product_id FROM many) RETURNING *)
    INSERT INTO device_tally ({_KIND}, devices, online) {_SUM} FROM taken {_BY_KIND}"""
_IN_GROUP = "SELECT COALESCE(SUM(devices), 0) AS devices FROM group_tally WHERE group_id = $1"
_FOLD_GROUPS = """
    WITH many AS (SELECT group_id FROM group_tally GROUP BY group_id HAVING COUNT(*) > $1),
         taken AS (DELETE FROM group_tally WHERE group_id IN (SELECT group_id FROM many) RETURNING *)
    INSERT INTO group_tally (group_id, devices) SELECT group_id, SUM(devices) FROM taken GROUP BY group_id"""
_INSIDE = """
    SELECT device.product_id, device.state, device.firmware_version, device.proven,
           COUNT(*) AS devices, COUNT(CASE WHEN presence.online THEN 1 END) AS online
      FROM device LEFT JOIN presence ON presence.device_id = device.device_id
     WHERE device.product_id = $1 AND device.device_id IN (SELECT device_id FROM group_membership WHERE group_id = ANY($2))
     GROUP BY 1, 2, 3, 4"""
# One statement, so that both sides are of one moment.
_BOTH = f"""
      FROM (SELECT {_KIND}, devices AS kept, online AS kept_online, 0 AS there, 0 AS online FROM device_tally
            UNION ALL
            SELECT device.product_id, device.state, device.firmware_version, device.proven,
                   0, 0, 1, CASE WHEN presence.online THEN 1 ELSE 0 END
              FROM device LEFT JOIN presence ON presence.device_id = device.device_id
             WHERE device.product_id IS NOT NULL) AS every
     GROUP BY {_KIND}
    HAVING SUM(kept) <> SUM(there) OR SUM(kept_online) <> SUM(online)"""
_DIFFERENCES = f"""
    SELECT product_id, state, firmware_version,
           SUM(kept) AS kept, SUM(kept_online) AS kept_online, SUM(there) AS there, SUM(online) AS online
           {_BOTH} ORDER BY product_id, state, firmware_version"""
_MISSING = f"SELECT {_KIND}, SUM(there) - SUM(kept), SUM(online) - SUM(kept_online) {_BOTH}"

_GROUPS = """
    SELECT device_group.id, device_group.product_id, device_group.path,
           (SELECT COALESCE(SUM(devices), 0) FROM group_tally WHERE group_id = device_group.id) AS kept,
           (SELECT COUNT(DISTINCT membership.device_id)
              FROM group_above AS inside JOIN group_membership AS membership ON membership.group_id = inside.group_id
             WHERE inside.above_id = device_group.id) AS counted
      FROM device_group"""


def _kind(row: dict[str, Any]) -> Kind:
    numbers = int(row["devices"]), int(row["online"])
    return Kind(row["product_id"], row["state"], row["firmware_version"], bool(row["proven"]), *numbers)
