"""Tortoise's schema editor for SQLite, without what it loses: indexes and unique constraints at a rebuild, statements at a `;`."""

import sqlite3
from dataclasses import dataclass
from typing import Any

from tortoise.migrations.schema_editor.sqlite import SqliteSchemaEditor


@dataclass(frozen=True)
class _Index:
    unique: bool
    columns: tuple[str, ...]
    sql: str | None  # None: a constraint written inside CREATE TABLE


def statements(script: str) -> list[str]:
    """The statements of a script, told apart by SQLite's own parser: a `;` in a text or a trigger is none of its ends."""
    found, pending = [], ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return [statement for statement in found if statement != ";"]


class Editor(SqliteSchemaEditor):
    """Changes tables inside the caller's transaction."""

    async def _run_sql(self, sql: str) -> None:
        if self.collect_sql:
            await super()._run_sql(sql)
            return
        for statement in statements(sql):
            await self.client.execute_query(statement)  # executescript would commit what came before

    async def _remake_table(self, model: Any, create_field: Any = None, delete_field: Any = None, alter_fields: Any = None) -> None:
        """Rebuild a table, then give back the indexes and unique constraints the rebuild dropped with the old one."""
        table = model._meta.db_table
        wanted = [index for index in await self._indexes(table) if not _is_given_up(index, alter_fields or [])]
        await super()._remake_table(model, create_field, delete_field, alter_fields)
        for _, new in alter_fields or []:
            if new.index and not new.pk:
                wanted.append(_Index(unique=False, columns=(_column(new),), sql=self._get_index_sql(model, [_column(new)])))
        present = {(index.unique, index.columns) for index in await self._indexes(table)}
        columns = {row["name"] for row in await self.client.execute_query_dict(f'PRAGMA table_info("{table}")')}
        for index in wanted:
            if (index.unique, index.columns) not in present and set(index.columns) <= columns:
                await self._run_sql(index.sql or self._get_unique_index_sql_for(model, index))
                present.add((index.unique, index.columns))

    async def _indexes(self, table: str) -> list[_Index]:
        listed = await self.client.execute_query_dict(f'PRAGMA index_list("{table}")')
        found = []
        for row in sorted(listed, key=lambda row: row["seq"], reverse=True):
            if row["origin"] == "pk":
                continue
            columns = await self.client.execute_query_dict(f'PRAGMA index_info("{row["name"]}")')
            source = await self.client.execute_query_dict("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?", [row["name"]])
            names = tuple(column["name"] for column in columns if column["name"])  # no name: an expression
            found.append(_Index(unique=bool(row["unique"]), columns=names, sql=source[0]["sql"] if source else None))
        return found

    def _get_unique_index_sql_for(self, model: Any, index: _Index) -> str:
        name = self._generate_index_name("uid", model, list(index.columns))  # what Tortoise will look for when it is to go
        return f'CREATE UNIQUE INDEX "{name}" ON "{model._meta.db_table}" ({", ".join(self.quote(column) for column in index.columns)});'


def _column(field: Any) -> str:
    column: str = field.source_field or field.model_field_name
    return column


def _is_given_up(index: _Index, altered: list[tuple[Any, Any]]) -> bool:
    """Whether the change itself takes this index away: `unique` or `db_index` goes from the column."""
    for old, new in altered:
        if index.columns == (_column(old),):
            return (old.unique and not new.unique) if index.unique else (old.index and not new.index)
    return False
