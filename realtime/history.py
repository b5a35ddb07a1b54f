"""The log as lists show it: pages forward and backward between two positions, filtered, oldest first."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from models.log import EntryKind
from models.sql import rows, tuples
from realtime.log import COLUMNS, Entry, Where, entry_of


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries. At least one of `product_number` and `device_ids` is given; None and the empty tuple mean "any"."""

    product_number: int | None = None
    device_ids: Collection[str] | None = None  # empty: none at all
    group_ids: Collection[int] | None = None  # devices that are in any of these groups now; empty: none at all
    kinds: Collection[str] = (EntryKind.EVENT,)
    name_prefix: str = ""  # literal and case-sensitive
    since: datetime | None = None  # inclusive
    until: datetime | None = None  # exclusive
    begins_at: int = 0  # position, inclusive

    def where(self) -> Where:
        assert self.product_number is not None or self.device_ids is not None
        where = Where("1 = 1")
        if self.product_number is not None:
            where.add("product_number = {}", self.product_number)
        if self.device_ids is not None:
            ids = list(self.device_ids)
            if ids:
                where.any_of(("device_id", ids))
            else:
                where.add("1 = 0")
        if self.group_ids is not None:
            where.add("device_id IN (SELECT device_id FROM group_membership WHERE group_id = ANY({}))", list(self.group_ids))
        where.common(self.kinds, self.name_prefix)
        if self.since is not None:
            where.add("published_at >= {}", self.since)
        if self.until is not None:
            where.add("published_at < {}", self.until)
        if self.begins_at:
            where.add("position >= {}", self.begins_at)
        return where


async def page(
    selection: Selection, *, limit: int, after: int | None = None, before: int | None = None, backward: bool = False
) -> list[Entry]:
    """Up to `limit` entries strictly between the positions `after` and `before`, oldest first: the first ones, or with `backward`
    the last ones. Ask for one more than is shown to learn whether there are more.
    """
    where = selection.where()
    if after is not None:
        where.add("position > {}", after)
    if before is not None:
        where.add("position < {}", before)
    direction = "DESC" if backward else "ASC"
    found = await tuples(f"SELECT {COLUMNS} FROM log_entry WHERE {where} ORDER BY position {direction} LIMIT {int(limit)}", where.values)
    entries = [entry_of(row) for row in found]
    return entries[::-1] if backward else entries


async def count(selection: Selection) -> int:
    """All of them; the time it takes grows with their number."""
    where = selection.where()
    total: int = (await rows(f"SELECT count(*) AS total FROM log_entry WHERE {where}", where.values))[0]["total"]
    return total
