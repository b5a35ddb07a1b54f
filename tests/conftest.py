"""What every test may ask for: settings on a fresh database of each kind, and a real PostgreSQL, Valkey and server process."""

import asyncio
import contextlib
import dataclasses
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest

from gateway.live import LiveFleet
from models.database import sqlite_path
from models.migrating import migrate
from settings import Settings
from tests import s3, servers
from tests.house import HouseTester, open_house
from tests.processes import SERVE, ServerProcess, environment_of


class XdistNode(Protocol):
    workerinput: dict[str, object]


# ── property tests: the same examples in each run, so that no run fails by chance; `--hypothesis-profile=wide` looks for new ones ──
patient = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("same", patient, derandomize=True)
hypothesis.settings.register_profile("wide", patient, derandomize=False, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile("same")


# ── one server of each kind a run: the controller of pytest-xdist starts them for its workers ──
_shared = contextlib.ExitStack()
_urls: dict[str, str] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: XdistNode) -> None:
    if not _urls:
        _urls["postgres"] = _shared.enter_context(servers.postgres()).url
        _urls["redis"] = _shared.enter_context(servers.valkey()).url
    node.workerinput["server_urls"] = _urls


def pytest_unconfigure() -> None:
    _shared.close()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An administrator's URL of the run's PostgreSQL; tests take a database of their own from `new_postgres_database`."""
    if shared := _from_controller(request.config, "postgres"):
        yield shared
        return
    with servers.postgres() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The run's Valkey, empty at the start and shared by all tests: they name their keys and channels apart."""
    if shared := _from_controller(request.config, "redis"):
        yield shared
        return
    with servers.valkey() as server:
        yield server.url


def _from_controller(config: pytest.Config, name: str) -> str | None:
    urls: dict[str, str] = getattr(config, "workerinput", {}).get("server_urls", {})
    return urls.get(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rollout-devices", type=int, default=60, help="How many devices the rollouts of tests/flows have.")


# ── databases ──
class NewPostgresDatabase(Protocol):
    def __call__(self, *, template: str | None = None) -> str: ...


@pytest.fixture(scope="session")
def make_postgres_database(postgres_url: str) -> Iterator[NewPostgresDatabase]:
    """Like `new_postgres_database`, for databases that live as long as the run: templates, above all."""
    with _databases(postgres_url) as make:
        yield make


@pytest.fixture
def new_postgres_database(postgres_url: str) -> Iterator[NewPostgresDatabase]:
    """Call it for the URL of a fresh database, empty or a copy of the one named `template`; dropped after the test."""
    with _databases(postgres_url) as make:
        yield make


@contextlib.contextmanager
def _databases(admin_url: str) -> Iterator[NewPostgresDatabase]:
    made: list[str] = []

    def make(*, template: str | None = None) -> str:
        made.append(servers.new_database(admin_url, template=template))
        return made[-1]

    try:
        yield make
    finally:
        for url in made:
            servers.drop_database(admin_url, url)


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    """Settings whose SQLite database does not exist yet: nothing is migrated."""
    return dataclasses.replace(Settings(), data_dir=tmp_path / "data", secret_key="of the tests, thirty-two characters long")


@pytest.fixture
def postgres_settings(sqlite_settings: Settings, new_postgres_database: NewPostgresDatabase) -> Settings:
    """Settings on a fresh PostgreSQL database: nothing is migrated."""
    return dataclasses.replace(sqlite_settings, database_url=new_postgres_database())


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Runs the test twice, on a fresh un-migrated database of each kind; races and faults take `postgres_settings`."""
    chosen: Settings = request.getfixturevalue(f"{request.param}_settings")
    return chosen


# ── object storage ──
@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Bucket]:
    with s3.serving(tmp_path_factory.mktemp("s3")) as bucket:
        yield bucket


@pytest.fixture
def bucket(s3_server: s3.Bucket, monkeypatch: pytest.MonkeyPatch) -> s3.Bucket:
    """The run's bucket, and this process knows its keys; each test takes a prefix of its own."""
    for name, value in s3.KEYS.items():
        monkeypatch.setenv(name, value)
    return s3_server


# ── server processes ──
@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`start_server(settings, VARIABLE="value", ...)` returns a ready server process; all are stopped after the test."""
    with contextlib.ExitStack() as running:
        count = 0

        def start(settings: Settings, *, command: tuple[str, ...] = SERVE, ready_path: str = "/readyz", **variables: str) -> ServerProcess:
            nonlocal count
            count += 1
            environment = {**environment_of(settings), **variables}
            server = ServerProcess(environment, log_path=tmp_path / f"server-{count}.log", command=command, ready_path=ready_path)
            return running.enter_context(server)

        yield start


# ── a house without sockets ──
HOUSE: dict[str, Any] = {"secret_key": "of the tests, thirty-two characters long", "rate_limits": False, "billing": "off"}


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy: migrating once a run, not once a test."""
    settings = dataclasses.replace(Settings(), data_dir=tmp_path_factory.mktemp("template"))
    _migrate(settings)
    return sqlite_path(settings)


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory, make_postgres_database: NewPostgresDatabase) -> str:
    """The name of a migrated PostgreSQL database to copy."""
    url = make_postgres_database()
    _migrate(dataclasses.replace(Settings(), data_dir=tmp_path_factory.mktemp("template"), database_url=url))
    return servers.database_name(url)


def _migrate(settings: Settings) -> None:
    with ThreadPoolExecutor(1) as elsewhere:  # an async test's loop may be running in this thread
        elsewhere.submit(lambda: asyncio.run(migrate(settings))).result()


@pytest.fixture
def migrated_sqlite(tmp_path: Path, sqlite_template: Path) -> Settings:
    settings = dataclasses.replace(Settings(), data_dir=tmp_path / "data", **HOUSE)
    settings.data_dir.mkdir()
    shutil.copy(sqlite_template, sqlite_path(settings))
    return settings


@pytest.fixture
def migrated_postgres(tmp_path: Path, postgres_template: str, new_postgres_database: NewPostgresDatabase) -> Settings:
    settings = dataclasses.replace(
        Settings(), data_dir=tmp_path / "data", database_url=new_postgres_database(template=postgres_template), **HOUSE
    )
    settings.data_dir.mkdir()
    return settings


@pytest.fixture(params=["sqlite", "postgres"])
async def tester(request: pytest.FixtureRequest) -> AsyncIterator[HouseTester]:
    """A house on each kind of database; see tests/house.py."""
    live = LiveFleet()
    async with open_house(request.getfixturevalue(f"migrated_{request.param}"), live) as house:
        yield HouseTester(house, live=live)


@pytest.fixture
async def postgres_tester(migrated_postgres: Settings) -> AsyncIterator[HouseTester]:
    """For races: SQLite has one writer and hides them."""
    live = LiveFleet()
    async with open_house(migrated_postgres, live) as house:
        yield HouseTester(house, live=live)


@pytest.fixture(params=["sqlite", "postgres"])
async def slowing_tester(request: pytest.FixtureRequest) -> AsyncIterator[HouseTester]:
    """A house with RATE_LIMITS=on."""
    settings: Settings = request.getfixturevalue(f"migrated_{request.param}")
    async with open_house(dataclasses.replace(settings, rate_limits=True)) as house:
        yield HouseTester(house)
