"""Rows by statements of our own: the same models as Tortoise makes, without its query built anew each time.

They are whole, unless the operation under way says which columns it wants: then the others are not read, and not there.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
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
    shape = shape_wanted(table)
    return shape.rows(await sql.tuples(f"SELECT {shape.columns} FROM {table._meta.db_table} WHERE {where}", params))


async def by_key(table: type[Row], column: str, keys: Sequence[Any]) -> dict[Any, Row]:
    """Those that hold one of the keys in a column, by it."""
    read = itemgetter(column)
    return {read(vars(row)): row for row in await fetch(table, f"{column} = ANY($1)", [list(keys)])}


def columns(table: type[Model], alias: str) -> str:
    """What `rows_of_join` wants of a table."""
    return _shape(table, sql.is_sqlite(), None).of(alias)


def rows_of_join(record: Sequence[Any], *tables: type[Model]) -> list[Any]:
    """A row of each table out of one record of a join, which begins with the `columns` of each; None where the join found none."""
    found: list[Any] = []
    is_sqlite = sql.is_sqlite()
    for table in tables:
        shape = _shape(table, is_sqlite, None)
        mine, record = record[: len(shape.names)], record[len(shape.names) :]
        found.append(shape.row(mine) if mine.count(None) < len(mine) else None)
    return found


def at_hand(row: Model, **relations: Model | None) -> None:
    """Give a row what its relations lead to, read beside it."""
    for name, other in relations.items():
        object.__setattr__(row, f"_{name}", other)  # where Tortoise looks for it


def shape_wanted(table: type[Row]) -> "Shape[Row]":
    """How rows of this table are read by the operation under way."""
    wanted = _wanted.get()
    return _shape(table, sql.is_sqlite(), None if wanted is None else wanted.get(table))


@dataclass(frozen=True, slots=True)
class Shape(Generic[Row]):
    """How one table's records become rows: the columns in order, and those that the driver hands over as something else."""

    table: type[Row]
    columns: str
    names: tuple[str, ...]
    converted: tuple[tuple[str, Convert], ...]
    standing: Mapping[str, Any]  # what Tortoise keeps in each row that is stored

    def of(self, alias: str) -> str:
        """The columns where the table goes by another name."""
        return ", ".join(f"{alias}.{column}" for column in self.columns.split(", "))

    def rows(self, records: Iterable[Sequence[Any]]) -> list[Row]:
        """Of records that begin with the columns."""
        return [self.row(record) for record in records]

    def row(self, record: Sequence[Any]) -> Row:
        row = self.table.__new__(self.table)
        values = row.__dict__
        values.update(self.standing)
        values["_await_when_save"] = {}
        values.update(zip(self.names, record, strict=False))
        for name, convert in self.converted:
            if (value := values[name]) is not None:
                values[name] = convert(value)
        return row


@lru_cache(maxsize=4096)
def _shape(table: type[Row], is_sqlite: bool, wanted: frozenset[str] | None) -> Shape[Row]:
    meta = table._meta
    names = [name for name in sorted(meta.fields_db_projection) if wanted is None or name in wanted or name == meta.pk_attr]
    columns = {name: meta.fields_db_projection[name] for name in names}
    converted = [(name, convert) for name in columns if (convert := _conversion(meta.fields_map[name], is_sqlite))]
    standing = {
        "_partial": wanted is not None,
        "_saved_in_db": True,
        "_custom_generated_pk": meta.db_pk_column not in meta.generated_db_fields,
    }
    return Shape(table, ", ".join(columns.values()), tuple(columns), tuple(converted), standing)


def _conversion(field: Any, is_sqlite: bool) -> Convert | None:
    if isinstance(field, fields.JSONField):
        return _json
    if field.field_type in (str, int, float) or not is_sqlite:
        return None  # as the driver hands it over
    read: Convert = sql.read_time if field.field_type is datetime else bool if field.field_type is bool else field.to_python_value
    return read


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value
