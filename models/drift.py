"""Where the tables of a database differ from the classes: columns, keys, indexes and unique constraints, read from the database itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tortoise.context import TortoiseContext
from tortoise.indexes import Index
from tortoise.migrations.constraints import UniqueConstraint

from models import sql
from models.database import MODEL_MODULES, opened
from models.transaction import transaction
from settings import Settings

Columns = tuple[str, ...]


@dataclass
class _Table:
    """One table, as the classes want it or as it is."""

    columns: dict[str, tuple[str, bool]] = field(default_factory=dict)  # name → type in the database's own words, may be null
    unique: set[Columns] = field(default_factory=set)
    indexes: set[Columns] = field(default_factory=set)
    foreign: set[tuple[str, str, str]] = field(default_factory=set)  # column, table it points to, what a deletion does


async def drift(settings: Settings, *, models: Sequence[str] = MODEL_MODULES) -> list[str]:
    """One sentence for each difference between a migrated database and the classes; empty when they agree.

    Indexes over expressions, or for some rows only, are beyond the classes (they come from migrations._steps.InSql) and are not told.
    """
    async with opened(settings, models) as context:
        wanted = await _wanted(context)
        actual = await (_in_sqlite() if settings.is_sqlite else _in_postgres())
    actual.pop("tortoise_migrations", None)
    found = [f"Table {name} is missing." for name in sorted(wanted.keys() - actual.keys())]
    found += [f"Table {name} belongs to no class." for name in sorted(actual.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & actual.keys()):
        found += _differences(name, wanted[name], actual[name])
    return found


def _differences(table: str, wanted: _Table, actual: _Table) -> list[str]:
    found = []
    for column in sorted(wanted.columns.keys() | actual.columns.keys()):
        want, have = wanted.columns.get(column), actual.columns.get(column)
        if want != have:
            found.append(f"{table}.{column}: the class says {_words(want)}, the database {_words(have)}.")
    for kind, want_set, have_set in (
        ("unique constraint", wanted.unique, actual.unique),
        ("index", wanted.indexes, actual.indexes),
        ("foreign key", wanted.foreign, actual.foreign),
    ):
        found += [f"{table}: {kind} {each} is missing." for each in sorted(want_set - have_set)]
        found += [f"{table}: {kind} {each} belongs to no class." for each in sorted(have_set - want_set)]
    return found


def _words(column: tuple[str, bool] | None) -> str:
    return "nothing" if column is None else f"{column[0]}{'' if column[1] else ' not null'}"


async def _wanted(context: TortoiseContext) -> dict[str, _Table]:
    assert context.apps is not None
    classes = [model for models in context.apps.values() for model in models.values()]
    dialect = context.db().capabilities.dialect
    raw = {model: _of_class(model, dialect) for model in classes}
    names = await _type_names({kind for table in raw.values() for kind, _ in table.columns.values()})
    for table in raw.values():
        table.columns = {name: (names[kind], null) for name, (kind, null) in table.columns.items()}
    return {model._meta.db_table: table for model, table in raw.items()}


def _of_class(model: Any, dialect: str) -> _Table:
    table, meta = _Table(), model._meta
    for name, column in meta.fields_db_projection.items():
        each = meta.fields_map[name]
        made = each.get_for_dialect(dialect, "GENERATED_SQL") if dialect == "sqlite" and each.pk and each.generated else None
        table.columns[column] = (made.split()[0] if made else each.get_for_dialect(dialect, "SQL_TYPE"), each.null)
        reference = getattr(each, "reference", None)
        if each.unique and not each.pk:
            table.unique.add((column,))
        if each.index and not each.pk:
            table.indexes.add((column,))
        if reference is not None and reference.db_constraint:
            table.foreign.add((column, reference.related_model._meta.db_table, reference.on_delete.value))

    def columns(fields: Sequence[str]) -> Columns:
        return tuple(meta.fields_map[name].source_field or name for name in fields)

    table.unique |= {columns(fields) for fields in meta.unique_together or ()}
    table.unique |= {columns(each.fields) for each in getattr(meta, "constraints", None) or () if isinstance(each, UniqueConstraint)}
    plain = [each.fields if isinstance(each, Index) else each for each in meta.indexes or ()]
    table.indexes |= {columns(fields) for fields in plain if fields}
    return table


async def _type_names(kinds: set[str]) -> dict[str, str]:
    """What the database calls these types: PostgreSQL is asked by making a table of them, SQLite keeps the words."""
    if sql.is_sqlite() or not kinds:
        return {kind: kind for kind in kinds}
    ordered = sorted(kinds)
    async with transaction():
        await sql.execute(f"CREATE TEMP TABLE kinds ({', '.join(f'c{n} {kind}' for n, kind in enumerate(ordered))}) ON COMMIT DROP")
        found = await sql.rows(
            "SELECT format_type(atttypid, atttypmod) AS name FROM pg_attribute "
            "WHERE attrelid = 'kinds'::regclass AND attnum > 0 ORDER BY attnum"
        )
    return {kind: row["name"] for kind, row in zip(ordered, found, strict=True)}


async def _in_sqlite() -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    for row in await sql.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"):
        name, table = row["name"], _Table()
        for column in await sql.rows(f'PRAGMA table_info("{name}")'):
            table.columns[column["name"]] = (column["type"], not column["notnull"])
        for index in await sql.rows(f'PRAGMA index_list("{name}")'):
            columns = tuple(each["name"] for each in await sql.rows(f'PRAGMA index_info("{index["name"]}")'))
            if index["origin"] != "pk" and not index["partial"] and None not in columns:
                (table.unique if index["unique"] else table.indexes).add(columns)
        for key in await sql.rows(f'PRAGMA foreign_key_list("{name}")'):
            table.foreign.add((key["from"], key["table"], key["on_delete"]))
        tables[name] = table
    return tables


async def _in_postgres() -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    for row in await sql.rows(_COLUMNS):
        tables.setdefault(row["table"], _Table()).columns[row["name"]] = (row["type"], row["null"])
    for row in await sql.rows(_INDEXES):
        (tables[row["table"]].unique if row["unique"] else tables[row["table"]].indexes).add(tuple(row["columns"]))
    for row in await sql.rows(_FOREIGN_KEYS):
        tables[row["table"]].foreign.add((row["column"], row["target"], row["deletion"]))
    return tables


_COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS null
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""

_INDEXES = """
SELECT c.relname AS table, i.indisunique AS unique,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.place) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = current_schema()::regnamespace AND NOT i.indisprimary AND i.indpred IS NULL AND i.indexprs IS NULL
"""

_FOREIGN_KEYS = """
SELECT c.relname AS table, a.attname AS column, t.relname AS target,
       CASE k.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT'
                          WHEN 'r' THEN 'RESTRICT' ELSE 'NO ACTION' END AS deletion
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
WHERE k.contype = 'f' AND c.relnamespace = current_schema()::regnamespace
"""
