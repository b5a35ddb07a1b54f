"""The device list: filters, search and orders as one statement of SQL that both databases know.

An order whose key may be missing is read in two parts, those that have it first. Each part follows an index of its own, so a page costs
the same in a large fleet and a small one; filters that few devices fit, search above all, read what they pass over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from auth.spelling import same_name_key
from auth.viewer import Viewer
from errors import BadRequest, NotFound
from fleet import scope
from fleet.devices.counting import Kind, in_group, kinds
from fleet.products.grouping import at_or_below
from fleet.seeing import sight
from models.device import Device
from models.global_ids import number_of
from models.product import Product
from models.sql import rows, tuples
from models.whole_rows import shape_wanted

CONDITIONS_MAX = 100  # in one filter: and, or, not included
DEPTH_MAX = 10
SEARCH_MAX = 100  # characters
KEPT = {"state", "firmware_version", "online"}  # conditions whose numbers are kept by fleet/devices/counting.py

Filter = Mapping[str, Any]


class DeviceOrder(StrEnum):
    LAST_HEARD = "LAST_HEARD"
    DEVICE_ID = "DEVICE_ID"
    NAME = "NAME"
    FIRMWARE_VERSION = "FIRMWARE_VERSION"
    CREATED_AT = "CREATED_AT"


@dataclass(frozen=True, slots=True)
class _Key:
    """What an order sorts by; equal ones by device id in the same direction, those without it by device id upwards."""

    column: str | None
    kind: type = str  # of the key in a cursor
    descending: bool = False
    may_be_missing: bool = False
    row: str | None = None  # the column that is null where the key's whole row is missing: databases skip those faster than null keys


_KEYS = {
    DeviceOrder.LAST_HEARD: _Key("p.last_heard", datetime, descending=True, may_be_missing=True, row="p.device_id"),
    DeviceOrder.DEVICE_ID: _Key(None),
    DeviceOrder.NAME: _Key("d.name", may_be_missing=True),
    DeviceOrder.FIRMWARE_VERSION: _Key("d.firmware_version", int, descending=True, may_be_missing=True),
    DeviceOrder.CREATED_AT: _Key("d.created_at", datetime, descending=True),
}


class Place(NamedTuple):
    """Where a device stands in an order: its key, None where it has none, and its id."""

    key: Any
    device_id: str


@dataclass(slots=True)
class _Where:
    """A condition under construction, and its values."""

    text: str
    values: list[Any] = field(default_factory=list)

    def put(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


class DeviceList:
    """The devices of a product that a filter names, in an order."""

    def __init__(self, where: _Where, order: DeviceOrder, filter: Filter, *, kept_of: int | None, kept_in: int | None) -> None:
        self._where = where
        self._key = _KEYS[order]
        self._filter = filter
        self._kept_of = kept_of  # the product, where its kept numbers answer the filter
        self._kept_in = kept_in  # the group, where its number does

    @classmethod
    async def of(cls, product: Product, filter: Filter, order: DeviceOrder, *, by: Viewer) -> "DeviceList":
        """Of those that the viewer may see.

        Raises BadRequest for a filter that is too large or holds what no text can, NotFound for an unknown group.
        """
        where = _Where("")
        listed = [f"d.product_id = {where.put(product.id)}"]
        inside = sight(by, product.id).groups
        if inside is not None:
            listed.append(_IN_GROUPS.format(where.put(sorted(inside))))
        reading = _Reading(product, where, by)
        listed += await reading.all_of(filter, depth=0)
        where.text = " AND ".join(listed)
        kept_of = product.id if inside is None and filter.keys() <= KEPT else None
        return cls(where, order, filter, kept_of=kept_of, kept_in=reading.group if filter.keys() == {"group"} else None)

    def place(self, keys: Sequence[object]) -> Place:
        """What a cursor of this order holds. Raises BadRequest for anything else."""
        try:
            key, device_id = keys
            if key is not None and self._key.kind is datetime:
                key = datetime.fromisoformat(str(key)).astimezone(UTC)
            fits = (
                key is None if self._key.column is None else isinstance(key, self._key.kind) or (key is None and self._key.may_be_missing)
            )
            if fits and isinstance(device_id, str) and not (isinstance(key, int) and abs(key) >= 1 << 31):
                return Place(key, device_id)
        except (TypeError, ValueError):
            pass
        raise BadRequest("This cursor belongs to another order.", path=("after",))

    async def read(self, count: int, *, beyond: Place | None, backward: bool) -> list[tuple[Any, Device]]:
        """Up to `count` devices, each behind its key, from the start or behind a place; backward from the end or before it, last first."""
        found: list[tuple[Any, Device]] = []
        for missing in self._parts(beyond, backward):
            if len(found) < count:
                found += await self._part(count - len(found), missing, beyond, backward)
        return found

    async def count(self) -> int:
        """How many there are in all; nothing is counted where the filter asks only for what is kept."""
        if self._kept_of is not None:
            return sum(_number(kind, self._filter) for kind in await kinds([self._kept_of]))
        if self._kept_in is not None:
            return await in_group(self._kept_in)
        sql = f"SELECT COUNT(*) AS count FROM {_TABLES} WHERE {self._where.text}"
        return int((await rows(sql, self._where.values))[0]["count"])

    def _parts(self, beyond: Place | None, backward: bool) -> list[bool]:
        """Which parts are still to come: False are the devices that have the key, True those that miss it."""
        if not self._key.may_be_missing:
            return [False]
        parts = [True, False] if backward else [False, True]
        return parts if beyond is None else parts[parts.index(beyond.key is None) :]

    async def _part(self, count: int, missing: bool, beyond: Place | None, backward: bool) -> list[tuple[Any, Device]]:
        where = _Where(self._where.text, list(self._where.values))
        column = None if missing else self._key.column
        downwards = (column is not None and self._key.descending) != backward
        owner = "p" if column == "p.last_heard" else "d"  # of the index to follow; a presence row bears its device's product
        if owner == "p":
            where.text += " AND p.product_id = $1"
        if self._key.may_be_missing:
            where.text += f" AND {self._key.row or self._key.column} IS {'' if missing else 'NOT '}NULL"
        if beyond is not None and missing == (self._key.may_be_missing and beyond.key is None):
            where.text += f" AND {_beyond(where, column, owner, beyond, '<' if downwards else '>')}"
        sign = " DESC" if downwards else ""
        by = f"{column}{sign}, " if column else ""
        shape = shape_wanted(Device)
        sql = (
            f"SELECT {shape.selected('d')}, {column or 'NULL'} AS place FROM {_TABLES} WHERE {where.text}"
            f" ORDER BY {by}{owner}.device_id{sign} LIMIT {int(count)}"
        )
        found = await tuples(sql, where.values)
        return list(zip([record[-1] for record in found], shape.rows(found), strict=True))


def _beyond(where: _Where, column: str | None, owner: str, place: Place, comparison: str) -> str:
    if column is None:
        return f"{owner}.device_id {comparison} {where.put(place.device_id)}"
    return f"({column}, {owner}.device_id) {comparison} ({where.put(place.key)}, {where.put(place.device_id)})"


def _number(kind: Kind, filter: Filter) -> int:
    """How many devices of this kind a filter names that holds nothing beyond KEPT."""
    if filter.get("state", kind.state) != kind.state or filter.get("firmware_version", kind.firmware_version) != kind.firmware_version:
        return 0
    online = filter.get("online")
    return kind.devices if online is None else kind.online if online else kind.devices - kind.online


_IN_GROUPS = "EXISTS (SELECT 1 FROM group_membership m WHERE m.device_id = d.device_id AND m.group_id = ANY({}))"
_TABLES = "device d LEFT JOIN presence p ON p.device_id = d.device_id"


class _Reading:
    """Turns a filter into conditions. Each is true or false, never unknown, so that `not` means what it says."""

    def __init__(self, product: Product, where: _Where, by: Viewer) -> None:
        self._by = by
        self._product = product
        self._where = where
        self._conditions = 0
        self.group: int | None = None  # the last one named

    async def all_of(self, filter: Filter, *, depth: int) -> list[str]:
        if depth > DEPTH_MAX:
            raise BadRequest(f"A filter nests at most {DEPTH_MAX} deep.", path=("filter",))
        return [await self._one(name, value, depth) for name, value in filter.items()]

    async def _one(self, name: str, value: Any, depth: int) -> str:
        self._conditions += 1
        if self._conditions > CONDITIONS_MAX:
            raise BadRequest(f"A filter holds at most {CONDITIONS_MAX} conditions.", path=("filter",))
        if name == "not_":
            return f"NOT {await self._joined([value], ' AND ', depth)}"
        if name in ("and_", "or_"):
            return await self._joined(value, " AND " if name == "and_" else " OR ", depth)
        if name == "group":
            return await self._in_group(value)
        return self._simple(name, value)

    async def _joined(self, filters: Sequence[Filter], word: str, depth: int) -> str:
        """An empty list of alternatives fits nothing; an empty list of demands, or an empty filter, fits everything."""
        texts = [" AND ".join(await self.all_of(each, depth=depth + 1)) or "TRUE" for each in filters]
        return f"({word.join(f'({text})' for text in texts) or ('TRUE' if word == ' AND ' else 'FALSE')})"

    async def _in_group(self, path: str) -> str:
        """In the group or anywhere below it. Source: vocabulary, "Groups"."""
        group = await scope.group(self._by, self._product, _storable(path), field="filter")
        self.group = group.id
        return _IN_GROUPS.format(self._where.put(await at_or_below(group)))

    def _simple(self, name: str, value: Any) -> str:
        put = self._where.put
        match name:
            case "search":
                return self._search(value)
            case "online":
                return "COALESCE(p.online, FALSE)" if value else "NOT COALESCE(p.online, FALSE)"
            case "state":
                return f"d.state = {put(str(value))}"
            case "firmware_version":
                return f"(d.firmware_version IS NOT NULL AND d.firmware_version = {put(value)})"
            case "claimed":
                return f"d.owner_id IS {'NOT ' if value else ''}NULL"
            case "customer":
                return self._customer(value)
            case "development":
                return "d.development" if value else "NOT d.development"
            case "locked":
                return f"d.desired_firmware_version IS {'NOT ' if value else ''}NULL"
            case "last_heard_before":
                return f"(p.last_heard IS NOT NULL AND p.last_heard < {put(value)})"
            case "last_heard_after":
                return f"(p.last_heard IS NOT NULL AND p.last_heard >= {put(value)})"
        raise AssertionError(name)

    def _search(self, text: str) -> str:
        """Literally, anywhere in the id, the name, the serial number or the notes; ASCII letters in any case."""
        if len(_storable(text)) > SEARCH_MAX:
            raise BadRequest(f"A search takes at most {SEARCH_MAX} characters.", path=("filter", "search"))
        pattern = self._where.put(f"%{text.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%")
        columns = ("d.device_id", "d.name", "d.serial_number", "d.notes")
        return f"({' OR '.join(_like(column, pattern) for column in columns)})"

    def _customer(self, text: str) -> str:
        """By user name, or by global id."""
        try:
            return f"(d.owner_id IS NOT NULL AND d.owner_id = {self._where.put(number_of('Customer', text))})"
        except NotFound:
            name = self._where.put(same_name_key(_storable(text)))
            return f"EXISTS (SELECT 1 FROM customer c WHERE c.id = d.owner_id AND c.username_key = {name})"


def _like(column: str, pattern: str) -> str:
    return f"({column} IS NOT NULL AND lower({column}) LIKE lower({pattern}) ESCAPE '!')"


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRequest("This text holds characters that no name can hold.", path=("filter",))
    return text
