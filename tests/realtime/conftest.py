"""A migrated database of each kind, opened for this process."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from models import database
from settings import Settings


@pytest.fixture(params=["sqlite", "postgres"])
async def db(request: pytest.FixtureRequest) -> AsyncIterator[Settings]:
    """Runs the test twice: on SQLite and on PostgreSQL."""
    settings = dataclasses.replace(request.getfixturevalue(f"migrated_{request.param}"), database_pool_size=20)
    async with database.database(settings):
        yield settings


@pytest.fixture
async def postgres_db(migrated_postgres: Settings) -> AsyncIterator[Settings]:
    settings = dataclasses.replace(migrated_postgres, database_pool_size=60)
    async with database.database(settings):
        yield settings


@pytest.fixture
async def sqlite_db(migrated_sqlite: Settings) -> AsyncIterator[Settings]:
    async with database.database(migrated_sqlite):
        yield migrated_sqlite
