"""Rows by statements of our own: the same models as Tortoise makes, without its query built anew each time.

They are whole, unless the operation under way says which columns it wants: then the others are not read, and not there.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

from tortoise import fields
from tortoise.models import Model

from models import sql

Row = TypeVar("Row", bound=Model)
Convert = Callable[[Any], Any]
Wanted: TypeAlias = Mapping[type[Model], frozenset[str]]  # of some tables the attributes that are wanted; of all others every one

_wanted: ContextVar[Wanted | None] = ContextVar("wanted", default=None)


# ── what is read of a row ──
@contextmanager
def wanting(wanted: Wanted) -> Iterator[None]:
    """Inside the block rows are read with these columns, and their keys, alone."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def missed(error: BaseException) -> tuple[type[Model], str] | None:
    """The table and the column whose absence an error comes from; None for any other error."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := missed(each))), None)
    row = error.obj if isinstance(error, AttributeError) else None
    if isinstance(row, Model) and error.name in row._meta.fields_db_projection:  # type: ignore[attr-defined]  # an AttributeError
        return type(row), error.name  # type: ignore[attr-defined]  # as above
    return None


# ── rows ──


async def fetch(table: type[Row], where: str, params: Sequence[Any] = ()) -> list[Row]:
    """The rows `WHERE …`, which may go on with ORDER BY and LIMIT; SQL as in models.sql.

    They are as good as Tortoise's, their relations not at hand.
    """
    shape, name = shape_wanted(table), table._meta.db_table
    return shape.rows(await sql.tuples(f"SELECT {shape.selected(name)} FROM {name} WHERE {where}", params))


async def by_key(table: type[Row], column: str, keys: Sequence[Any]) -> dict[Any, Row]:
    """Those that hold one of the keys in a column, by it."""
    if isinstance(next(iter(keys), None), int):
        found = await fetch(table, f"{column} = ANY($1::text::bigint[])", [sql.numbers(keys)])
    else:
        found = await fetch(table, f"{column} = ANY($1)", [list(keys)])
    return dict(zip(map(attrgetter(column), found), found, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """How the records of a join become rows: what to select, and what stands where in a record that begins with it."""

    selected: str
    parts: tuple[tuple[int, Callable[[Iterable[Sequence[Any]]], list[Any]]], ...]  # of each table the place of its key, and its rows

    def rows(self, record: Sequence[Any]) -> list[Any]:
        """A row of each table; None where the join found none."""
        return [None if record[key] is None else rows((record,))[0] for key, rows in self.parts]


def join(**tables: type[Model]) -> Join:
    """Of whole rows; the tables by their names in the statement."""
    return _join(sql.is_sqlite(), tuple((alias, table, None) for alias, table in tables.items()))


def join_wanted(**tables: type[Model]) -> Join:
    """The same, of each table what the operation under way wants."""
    wanted = _wanted.get() or {}
    return _join(sql.is_sqlite(), tuple((alias, table, wanted.get(table)) for alias, table in tables.items()))


def at_hand(row: Row, **relations: Model | None) -> Row:
    """The row, given what its relations lead to, read beside it."""
    for name, other in relations.items():
        object.__setattr__(row, f"_{name}", other)  # where Tortoise looks for it
    return row


def shape_wanted(table: type[Row]) -> "Shape[Row]":
    """How rows of this table are read by the operation under way."""
    wanted = _wanted.get()
    return _shape(table, sql.is_sqlite(), None if wanted is None else wanted.get(table))


@dataclass(frozen=True, slots=True)
class Shape(Generic[Row]):
    """How one table's records become rows: what to select, and the function that makes the rows of records which hold it."""

    names: tuple[str, ...]  # of the attributes
    selected: Callable[[str], str]  # of the table by its name in the statement
    rows: Callable[[Iterable[Sequence[Any]]], list[Row]]


@lru_cache(maxsize=4096)
def _join(is_sqlite: bool, tables: tuple[tuple[str, type[Model], frozenset[str] | None], ...]) -> Join:
    selected, parts, begin = [], [], 0
    for alias, table, wanted in tables:
        shape = _shape(table, is_sqlite, wanted, begin)
        selected.append(shape.selected(alias))
        parts.append((begin + shape.names.index(table._meta.pk_attr), shape.rows))
        begin += len(shape.names)
    return Join(", ".join(selected), tuple(parts))


@lru_cache(maxsize=4096)
def _shape(table: type[Row], is_sqlite: bool, wanted: frozenset[str] | None, begin: int = 0) -> Shape[Row]:
    meta = table._meta
    names = [name for name in sorted(meta.fields_db_projection) if wanted is None or name in wanted or name == meta.pk_attr]
    standing = {  # what Tortoise keeps in each row that is stored
        "_partial": wanted is not None,
        "_saved_in_db": True,
        "_custom_generated_pk": meta.db_pk_column not in meta.generated_db_fields,
    }
    conversions = {name: convert for name in names if (convert := _conversion(meta.fields_map[name], is_sqlite))}
    columns = [_selected(meta.fields_map[name], meta.fields_db_projection[name], is_sqlite) for name in names]

    @cache
    def selected(name: str) -> str:
        return ", ".join(f"{name}.{column}" for column in columns)

    return Shape(tuple(names), selected, _maker(table, names, conversions, standing, begin))


def _selected(field: Any, column: str, is_sqlite: bool) -> str:
    """PostgreSQL sends times as text, which Python reads ten times as fast as asyncpg; by another name, or ORDER BY would take the text."""
    return f'{column}::text AS "{column} as text"' if field.field_type is datetime and not is_sqlite else column


def _maker(
    table: type[Row], names: Sequence[str], conversions: Mapping[str, Convert], standing: Mapping[str, bool], begin: int
) -> Callable[[Iterable[Sequence[Any]]], list[Row]]:
    """Generated, since a page makes a hundred rows: written out a row costs half. The names in it are those of the table's attributes."""
    entries = [f"{name!r}: {value}" for name, value in standing.items()]
    for place, name in enumerate(names, begin):
        read = f"record[{place}]"
        is_converted = f"None if (value := {read}) is None else convert_{name}(value)"
        entries.append(f"{name!r}: {is_converted if name in conversions else read}")
    text = f"""def rows(records):
    made = []
    for record in records:
        row = new(table)
        put(row, "__dict__", {{"_await_when_save": {{}}, {", ".join(entries)}}})
        made.append(row)
    return made"""
    known: dict[str, Any] = {"new": object.__new__, "put": object.__setattr__, "table": table}
    known |= {f"convert_{name}": convert for name, convert in conversions.items()}
    exec(compile(text, f"<rows of {table.__name__}>", "exec"), known)  # noqa: S102  # see above
    rows: Callable[[Iterable[Sequence[Any]]], list[Row]] = known["rows"]
    return rows


def _conversion(field: Any, is_sqlite: bool) -> Convert | None:
    if isinstance(field, fields.JSONField):
        return _json
    if field.field_type is datetime:
        return datetime.fromisoformat  # both send UTC: stored_time() on SQLite, the session's zone on PostgreSQL
    if field.field_type in (str, int, float) or not is_sqlite:
        return None  # as the driver hands it over
    read: Convert = bool if field.field_type is bool else field.to_python_value
    return read


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value
