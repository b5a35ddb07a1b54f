"""Pages of lists by keyset: cursors that hold the last row's sort keys, never offsets."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from strawberry import UNSET
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from errors import BadRequest
from settings import PAGE_DEFAULT, PAGE_MAX

T = TypeVar("T")
Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Edge(Generic[T]):
    """One row in a page; its cursor is made when it is asked for."""

    node: T
    cursor_of: Callable[[T], str]

    @property
    def cursor(self) -> str:
        return self.cursor_of(self.node)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What a Connection is answered with, and its own PageInfo. `count` counts the whole list, and only when it is called."""

    nodes: Sequence[T]
    has_next_page: bool
    has_previous_page: bool
    cursor_of: Callable[[T], str]
    count: Callable[[], Awaitable[int]]

    @property
    def edges(self) -> list[Edge[T]]:
        return [Edge(node, self.cursor_of) for node in self.nodes]

    @property
    def page_info(self) -> "Page[T]":
        return self

    @property
    def start_cursor(self) -> str | None:
        return self.cursor_of(self.nodes[0]) if self.nodes else None

    @property
    def end_cursor(self) -> str | None:
        return self.cursor_of(self.nodes[-1]) if self.nodes else None


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a list was asked for: `size` rows forward after a cursor, or backward before one."""

    size: int
    backward: bool
    cursor: str | None

    @classmethod
    def of(cls, first: int | None = None, after: str | None = None, last: int | None = None, before: str | None = None) -> "Slice":
        """Raises BadRequest for sizes outside 1..100, or both directions at once."""
        if (first is not None or after is not None) and (last is not None or before is not None):
            raise BadRequest("Page either forward (first, after) or backward (last, before).")
        backward = last is not None or before is not None
        size = last if backward else first
        if size is not None and not 1 <= size <= PAGE_MAX:
            raise BadRequest(f"first and last are from 1 to {PAGE_MAX}.")
        return cls(size or PAGE_DEFAULT, backward, before if backward else after)


def encode_cursor(list_name: str, keys: Sequence[object]) -> str:
    """A cursor that is good for the list of this name only (name it with its owner, e.g. "devices:1094:NAME")."""
    plain = [key.isoformat() if isinstance(key, datetime) else key for key in keys]
    return base64.urlsafe_b64encode(msgspec.json.encode([list_name, *plain])).decode().rstrip("=")


def decode_cursor(list_name: str, cursor: str) -> list[object]:
    """The keys in a cursor. Raises BadRequest for a damaged one or another list's."""
    try:
        name, *keys = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError):
        raise _damaged() from None
    if name != list_name:
        raise BadRequest("This cursor belongs to another list.", path=("after",))
    return list(keys)


def given(filter: object) -> dict[str, Any]:
    """The fields of a filter input that the client set; none for a filter left out. null counts as not set."""
    return {name: value for name, value in vars(filter).items() if value is not None and value is not UNSET} if filter else {}


@dataclass(frozen=True, slots=True)
class Order:
    """A total order by columns, the last of which is unique; all ascending or all descending."""

    columns: tuple[str, ...] = ("id",)
    descending: bool = False


async def page(query: QuerySet[Row], part: Slice, *, list_name: str, order: Order = Order()) -> Page[Row]:
    """One page of a query by keyset over non-null columns."""
    narrowed = query
    if part.cursor is not None:
        keys = _keys(query.model, order, decode_cursor(list_name, part.cursor))
        narrowed = query.filter(_beyond(order.columns, keys, descending=order.descending != part.backward))
    sign = "-" if order.descending != part.backward else ""
    rows = await narrowed.order_by(*(sign + column for column in order.columns)).limit(part.size + 1)
    return shape(rows, part, lambda row: encode_cursor(list_name, [getattr(row, c) for c in order.columns]), query.count)


def shape(rows: Sequence[T], part: Slice, cursor_of: Callable[[T], str], count: Callable[[], Awaitable[int]]) -> Page[T]:
    """A page out of up to size + 1 rows read in the slice's own direction; the one too many tells that there is more."""
    shown = rows[: part.size][:: -1 if part.backward else 1]
    came_from, more = part.cursor is not None, len(rows) > part.size
    before, behind = (more, came_from) if part.backward else (came_from, more)
    return Page(shown, behind, before, cursor_of, count)


async def total_count(page: Page[Any], _context: object) -> int:
    return await page.count()


def _keys(table: type[Model], order: Order, keys: list[object]) -> list[object]:
    """The keys as their columns hold them: a cursor comes from outside, whoever made it, and must not reach the driver unread."""
    if len(keys) != len(order.columns):
        raise BadRequest("This cursor belongs to another order.", path=("after",))
    return [_key(table._meta.fields_map[column], key) for column, key in zip(order.columns, keys, strict=True)]


def _key(column: Any, key: object) -> object:
    try:
        value = datetime.fromisoformat(key) if column.field_type is datetime and isinstance(key, str) else key
        if type(value) is column.field_type and (column.field_type is not int or value <= column.constraints["le"]):
            return value
    except ValueError:
        pass
    raise _damaged()


def _damaged() -> BadRequest:
    return BadRequest("This cursor is damaged; take endCursor or startCursor of a page.", path=("after",))


def _beyond(columns: tuple[str, ...], keys: list[object], *, descending: bool) -> Q:
    """(a, b) beyond (x, y) as a > x, or a = x and b > y: what both databases take."""
    comparison = "lt" if descending else "gt"
    beyond = _fits(f"{columns[-1]}__{comparison}", keys[-1])
    for column, key in zip(reversed(columns[:-1]), reversed(keys[:-1]), strict=True):
        beyond = _fits(f"{column}__{comparison}", key) | (_fits(column, key) & beyond)
    return beyond


def _fits(condition: str, value: Any) -> Q:
    return Q(**{condition: value})
