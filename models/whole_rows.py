"""Whole rows by a statement of our own: the same models as Tortoise makes, without its query built anew each time."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from tortoise import fields
from tortoise.models import Model

from models import sql

Row = TypeVar("Row", bound=Model)
Convert = Callable[[Any], Any]


async def fetch(table: type[Row], where: str, params: Sequence[Any] = ()) -> list[Row]:
    """The rows `WHERE …`, which may go on with ORDER BY and LIMIT; SQL as in models.sql.

    They are whole and as good as Tortoise's, their relations not at hand.
    """
    text = f"SELECT {columns(table)} FROM {table._meta.db_table} WHERE {where}"
    return made(table, await sql.tuples(text, params))


async def by_key(table: type[Row], column: str, keys: Sequence[Any]) -> dict[Any, Row]:
    """Those that hold one of the keys in a column, by it."""
    read = itemgetter(column)
    return {read(vars(row)): row for row in await fetch(table, f"{column} = ANY($1)", [list(keys)])}


def columns(table: type[Model], alias: str = "") -> str:
    """What `made` wants first in each record."""
    return _shape(table, sql.is_sqlite()).columns.replace("{}", f"{alias}." if alias else "")


def made(table: type[Row], records: Iterable[Sequence[Any]]) -> list[Row]:
    """Rows out of records that begin with `columns`."""
    shape = _shape(table, sql.is_sqlite())
    return [_made(table, shape, record) for record in records]


def rows_of_join(record: Sequence[Any], *tables: type[Model]) -> list[Any]:
    """A row of each table out of one record of a join, which begins with the `columns` of each; None where the join found none."""
    found: list[Any] = []
    for table in tables:
        shape = _shape(table, sql.is_sqlite())
        mine, record = record[: len(shape.names)], record[len(shape.names) :]
        found.append(_made(table, shape, mine) if any(value is not None for value in mine) else None)
    return found


def at_hand(row: Model, **relations: Model | None) -> None:
    """Give a row what its relations lead to, read beside it."""
    for name, other in relations.items():
        object.__setattr__(row, f"_{name}", other)  # where Tortoise looks for it


def _made(table: type[Row], shape: "_Shape", record: Sequence[Any]) -> Row:
    row = table.__new__(table)
    values = vars(row)
    values.update(shape.standing)
    values["_await_when_save"] = {}
    values.update(zip(shape.names, record, strict=False))
    for name, convert in shape.converted:
        if (value := values[name]) is not None:
            values[name] = convert(value)
    return row


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one table's records become rows: the columns in order, and those that the driver hands over as something else."""

    columns: str
    names: tuple[str, ...]
    converted: tuple[tuple[str, Convert], ...]
    standing: Mapping[str, Any]  # what Tortoise keeps in each row that is whole and stored


@cache
def _shape(table: type[Model], is_sqlite: bool) -> _Shape:
    meta = table._meta
    columns = {name: meta.fields_db_projection[name] for name in sorted(meta.fields_db_projection)}
    converted = [(name, convert) for name in columns if (convert := _conversion(meta.fields_map[name], is_sqlite))]
    standing = {
        "_partial": False,
        "_saved_in_db": True,
        "_custom_generated_pk": meta.db_pk_column not in meta.generated_db_fields,
    }
    return _Shape(", ".join(f"{{}}{column}" for column in columns.values()), tuple(columns), tuple(converted), standing)


def _conversion(field: Any, is_sqlite: bool) -> Convert | None:
    if isinstance(field, fields.JSONField):
        return _json
    if field.field_type in (str, int, float) or not is_sqlite:
        return None  # as the driver hands it over
    read: Convert = sql.read_time if field.field_type is datetime else bool if field.field_type is bool else field.to_python_value
    return read


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value
