"""The stages of the laws that call every mutation: built once a run on each kind of database."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.database import sqlite_path
from settings import Settings
from tests import servers
from tests.conftest import HOUSE, NewPostgresDatabase
from tests.scenarios.stage import Stages, build


@pytest.fixture(scope="session")
def sqlite_stages(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Stages:
    settings = _settings(tmp_path_factory.mktemp("stage"))
    shutil.copy(sqlite_template, sqlite_path(settings))
    return build(settings, lambda template, place: dataclasses.replace(template, data_dir=place))


@pytest.fixture(scope="session")
def postgres_stages(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: str, make_postgres_database: NewPostgresDatabase
) -> Stages:
    def copy(template: Settings, place: Path) -> Settings:
        url = make_postgres_database(template=servers.database_name(template.database_url))
        return dataclasses.replace(template, data_dir=place, database_url=url)

    settings = _settings(tmp_path_factory.mktemp("stage"), database_url=make_postgres_database(template=postgres_template))
    return build(settings, copy)


@pytest.fixture(params=["sqlite", "postgres"])
def stages(request: pytest.FixtureRequest) -> Stages:
    chosen: Stages = request.getfixturevalue(f"{request.param}_stages")
    return chosen


def _settings(data_dir: Path, **more: Any) -> Settings:
    return dataclasses.replace(Settings(), data_dir=data_dir, max_organizations_per_user=0, **HOUSE, **more)
