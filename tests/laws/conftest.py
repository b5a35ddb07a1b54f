"""The stages of the laws that call every mutation: built once a run on each kind of database."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from models.database import sqlite_path
from settings import Settings
from tests.conftest import HOUSE, NewPostgresDatabase
from tests.scenarios.stage import Stages, build


@pytest.fixture(scope="session")
def sqlite_stages(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Stages:
    """The database is a file in the data folder, which is copied."""

    async def leave(settings: Settings) -> None:
        pass

    settings = _settings(tmp_path_factory.mktemp("stage"))
    shutil.copy(sqlite_template, sqlite_path(settings))
    return build(settings, keep=leave, restore=leave)


@pytest.fixture(scope="session")
def postgres_stages(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: str, make_postgres_database: NewPostgresDatabase
) -> Stages:
    """One database, whose rows are put back for each case: a copy of the whole would cost a checkpoint each."""
    settings = _settings(tmp_path_factory.mktemp("stage"), database_url=make_postgres_database(template=postgres_template))
    return build(settings, keep=_keep_rows, restore=_restore_rows)


@pytest.fixture(params=["sqlite", "postgres"])
def stages(request: pytest.FixtureRequest) -> Stages:
    chosen: Stages = request.getfixturevalue(f"{request.param}_stages")
    return chosen


def _settings(data_dir: Path, **more: Any) -> Settings:
    return dataclasses.replace(Settings(), data_dir=data_dir, max_organizations_per_user=0, **HOUSE, **more)


async def _keep_rows(settings: Settings) -> None:
    """Lay a copy of every table aside."""
    copies = "".join(f'CREATE TABLE kept."{table}" AS TABLE public."{table}";' for table in await _tables(settings))
    await _run(settings, f"CREATE SCHEMA kept; {copies}")


async def _restore_rows(settings: Settings) -> None:
    tables = await _tables(settings)
    emptied = ", ".join(f'public."{table}"' for table in tables)
    filled = "".join(f'INSERT INTO public."{table}" SELECT * FROM kept."{table}";' for table in tables)
    # As a replica PostgreSQL checks no foreign keys, so that the tables may come in any order.
    await _run(settings, f"BEGIN; SET LOCAL session_replication_role = replica; TRUNCATE {emptied}; {filled} COMMIT;")


async def _tables(settings: Settings) -> list[str]:
    connection = await asyncpg.connect(settings.database_url)
    try:
        found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    finally:
        await connection.close()
    return [str(row["tablename"]) for row in found]


async def _run(settings: Settings, script: str) -> None:
    connection = await asyncpg.connect(settings.database_url)
    try:
        await connection.execute(script)
    finally:
        await connection.close()
