"""Bringing a database to today's tables: one runner at a time, each migration whole or not at all, SQLite copied first.

Source: reliability, "Migrations".
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.context import TortoiseContext, get_current_context
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget, PlanStep
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_editor import AsyncpgSchemaEditor, BaseSchemaEditor

from models import one_process
from models.database import opened, sqlite_path
from models.sqlite_schema import Editor
from models.transaction import connection, in_transaction, transaction
from settings import Settings

log = logging.getLogger(__name__)

APP = "models"  # Tortoise's label of our tables
MIGRATIONS = "migrations"  # the package of the steps
ADVISORY_LOCK = 0x466C6F74  # "Flot": any number, as long as it stays
WAIT_S = 120.0  # seconds for another migrate on the same data folder
NOTHING = "zero"  # the target that undoes everything


class MigrationFailed(Exception):
    """A migration could not be run; the database is as before it (SQLite: as before the whole run). The message says why."""


async def migrate(settings: Settings, target: str | None = None, *, migrations: str = MIGRATIONS) -> list[str]:
    """Run what is missing, or go forward or back to `target` ("zero" undoes all); the names that were run, in order.

    Safe when two start at once: one waits, and then finds nothing to do. Call it before connect().
    Raises MigrationFailed; DataFolderTaken when a server holds the SQLite file; DatabaseUnreachable.
    """
    if in_transaction():
        raise RuntimeError("migrate() opens transactions of its own.")
    if settings.is_sqlite and get_current_context() is not None:
        raise RuntimeError("migrate() comes before connect(): a failure puts the file back, under whoever has it open.")
    async with _alone(settings), opened(settings, migrating=True) as context:
        apps = _apps(migrations)
        await _Recorder(context.db()).create_table()
        steps = await _plan(context.db(), apps, target)
        if not steps:
            return []
        async with _undone_on_failure(settings, context):
            for step in steps:
                await _run(step, apps)
    return [step.migration.name for step in steps]


async def pending(settings: Settings, *, migrations: str = MIGRATIONS) -> list[str]:
    """The names of the migrations that `migrate` would run, in order; writes nothing."""
    async with opened(settings, migrating=True) as context:
        return [step.migration.name for step in await _plan(context.db(), _apps(migrations), None)]


def _apps(migrations: str) -> dict[str, dict[str, Any]]:
    return {APP: {"models": [], "migrations": migrations, "default_connection": "default"}}


@asynccontextmanager
async def _alone(settings: Settings) -> AsyncIterator[None]:
    if settings.is_sqlite:
        async with one_process.turn(sqlite_path(settings).parent, wait_s=WAIT_S):
            yield
        return
    # A connection of its own: the pool drops advisory locks whenever a connection comes back.
    holder = await asyncpg.connect(settings.database_url, timeout=settings.database_connect_timeout_s)
    try:
        await holder.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        yield
    finally:
        await holder.close(timeout=settings.database_connect_timeout_s)


async def _plan(client: BaseDBAsyncClient, apps: dict[str, dict[str, Any]], target: str | None) -> list[PlanStep]:
    targets = None if target is None else [MigrationTarget(APP, "__first__" if target == NOTHING else target)]
    try:
        return await _Executor(client, apps).plan(targets)
    except ValueError as error:  # Tortoise's word for a target, a dependency or a file that is not there
        raise MigrationFailed(str(error)) from error


async def _run(step: PlanStep, apps: dict[str, dict[str, Any]]) -> None:
    """One migration and its record, in one transaction."""
    name = step.migration.name
    try:
        async with transaction():
            executor = _Executor(connection(), apps)
            aim = [_aim(step)]
            planned = [(each.migration.name, each.backward) for each in await executor.plan(aim)]
            if planned != [(name, step.backward)]:
                raise MigrationFailed(f"Expected to run {name} alone, found {planned}: do the files form one line?")
            await executor.migrate(aim)
            await _refuse_orphans(executor.connection)
    except MigrationFailed:
        raise
    except Exception as error:
        raise MigrationFailed(f"Migration {name} failed and was rolled back: {type(error).__name__}: {error}") from error
    log.info("Migration %s %s.", name, "undone" if step.backward else "applied")


def _aim(step: PlanStep) -> MigrationTarget:
    """Forward: the migration itself. Back: the one before it, which stays."""
    if not step.backward:
        return MigrationTarget(APP, step.migration.name)
    before = [name for app, name in step.migration.dependencies if app == APP]
    return MigrationTarget(APP, before[-1] if before else "__first__")


async def _refuse_orphans(client: BaseDBAsyncClient) -> None:
    if client.capabilities.dialect != "sqlite":
        return
    orphans = await client.execute_query_dict("PRAGMA foreign_key_check")
    if orphans:
        tables = sorted({f"{row['table']} → {row['parent']}" for row in orphans})
        raise MigrationFailed(f"{len(orphans)} rows would point nowhere ({', '.join(tables)}); rolled back.")


@asynccontextmanager
async def _undone_on_failure(settings: Settings, context: TortoiseContext) -> AsyncIterator[None]:
    """SQLite: a copy of the file before, put back if any of the migrations fails. PostgreSQL keeps those that were whole."""
    if not settings.is_sqlite:
        yield
        return
    path = sqlite_path(settings)
    copy = path.with_name(path.name + ".before-migration")
    copy.unlink(missing_ok=True)  # of a run that was killed: each of its migrations was whole or not at all
    await context.db().execute_query("VACUUM INTO ?", [str(copy)])
    copy.chmod(path.stat().st_mode)
    try:
        yield
    except BaseException:
        await context.db().close()
        for journal in ("-wal", "-shm"):
            path.with_name(path.name + journal).unlink(missing_ok=True)
        copy.replace(path)
        raise
    copy.unlink()


class _Recorder(MigrationRecorder):
    """Which migrations have run. Its table is made once, before: inside a transaction Tortoise's script would commit it."""

    async def create_table(self) -> None:
        await super().ensure_schema(_editor(self.connection, atomic=False))

    async def ensure_schema(self, schema_editor: BaseSchemaEditor) -> None:
        return None

    async def applied_migrations(self) -> list[MigrationKey]:
        """Tortoise takes any error here for an empty database, and starts from the first migration."""
        known = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'tortoise_migrations'",
            "postgres": "SELECT to_regclass('tortoise_migrations') AS name",
        }
        tables = await self.connection.execute_query_dict(known[self.connection.capabilities.dialect])
        if not tables or tables[0]["name"] is None:
            return []
        found = await self.connection.execute_query_dict("SELECT app, name FROM tortoise_migrations ORDER BY id")
        return [MigrationKey(app_label=row["app"], name=row["name"]) for row in found]


class _Executor(MigrationExecutor):
    """Tortoise's, with our recorder and our SQLite editor."""

    def __init__(self, client: BaseDBAsyncClient, apps: dict[str, dict[str, Any]]) -> None:
        super().__init__(client, apps)
        self.recorder = _Recorder(client)
        self.loader.recorder = self.recorder

    def _schema_editor(self, atomic: bool = True, collect_sql: bool = False) -> BaseSchemaEditor:
        return _editor(self.connection, atomic)


def _editor(client: BaseDBAsyncClient, atomic: bool) -> BaseSchemaEditor:
    kind = Editor if client.capabilities.dialect == "sqlite" else AsyncpgSchemaEditor
    return kind(client, atomic=atomic)
