"""An empty, un-migrated database of each kind, small enough to reason about."""

from dataclasses import replace
from pathlib import Path

import pytest

from settings import Settings


@pytest.fixture
def postgres_settings(tmp_path: Path, new_postgres_database) -> Settings:
    return Settings(data_dir=tmp_path, database_url=new_postgres_database(), database_pool_size=5)


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty database, once for each kind."""
    return replace(request.getfixturevalue(f"{request.param}_settings"))
