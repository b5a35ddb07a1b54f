"""Houses that bill through their sandbox; see tests/payer.py."""

from collections.abc import AsyncIterator

import pytest

from settings import Settings
from tests.payer import Payer, open_payer


@pytest.fixture(params=["sqlite", "postgres"])
async def payer(request: pytest.FixtureRequest) -> AsyncIterator[Payer]:
    async with open_payer(request.getfixturevalue(f"migrated_{request.param}")) as opened:
        yield opened


@pytest.fixture
async def postgres_payer(migrated_postgres: Settings) -> AsyncIterator[Payer]:
    """For races."""
    async with open_payer(migrated_postgres) as opened:
        yield opened


@pytest.fixture
async def sqlite_payer(migrated_sqlite: Settings) -> AsyncIterator[Payer]:
    async with open_payer(migrated_sqlite) as opened:
        yield opened
