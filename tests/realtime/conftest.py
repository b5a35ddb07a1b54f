"""The tables on a fresh database of each kind, opened for this process."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
from tortoise.context import get_current_context

from models import database
from settings import Settings


async def _open(settings: Settings) -> AsyncIterator[Settings]:
    async with database.database(settings):
        context = get_current_context()
        assert context is not None
        await context.generate_schemas()
        yield settings


@pytest.fixture
async def db(settings: Settings) -> AsyncIterator[Settings]:
    """Runs the test twice: on SQLite and on PostgreSQL."""
    async for opened in _open(dataclasses.replace(settings, database_pool_size=20)):
        yield opened


@pytest.fixture
async def postgres_db(postgres_settings: Settings) -> AsyncIterator[Settings]:
    async for opened in _open(dataclasses.replace(postgres_settings, database_pool_size=60)):
        yield opened


@pytest.fixture
async def sqlite_db(sqlite_settings: Settings) -> AsyncIterator[Settings]:
    async for opened in _open(sqlite_settings):
        yield opened
