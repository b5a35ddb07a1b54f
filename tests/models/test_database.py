"""Opening the database: every task sees it, its file is private, and a dead server is told in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from models import database, sql
from models.migrating import migrate
from models.transaction import connection, transaction
from settings import Settings
from tests.models.sample_app.tables import Parent

SAMPLE = ("tests.models.sample_app.tables",)
STEPS = "tests.models.sample_app.steps"


async def test_requests_under_uvicorn_see_the_database_that_lifespan_opened(empty_settings: Settings) -> None:
    await migrate(empty_settings, migrations=STEPS)

    async def add(request: Request) -> JSONResponse:
        async with transaction():
            await Parent.create(name=request.query_params["name"], region="r")
        return JSONResponse(await Parent.all().count())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with database.database(empty_settings, models=SAMPLE):
            yield

    config = uvicorn.Config(Starlette(routes=[Route("/", add)], lifespan=lifespan), port=0, log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    bodies = await asyncio.gather(*(_get(port, f"/?name=n{number}") for number in range(20)))
    server.should_exit = True
    await serving

    assert max(int(body) for body in bodies) == 20
    with pytest.raises(RuntimeError, match="No TortoiseContext"):
        connection()


async def _get(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 200"), answer
    return answer.rpartition("\r\n\r\n")[2]


async def test_the_sqlite_file_is_its_owners_alone_and_set_up_as_meant(sqlite_settings: Settings) -> None:
    async with database.database(sqlite_settings, models=SAMPLE):
        pragmas = {name: (await sql.rows(f"PRAGMA {name}"))[0] for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")}
        await sql.execute("CREATE TABLE t (id INT)")

        files = {path.name: path.stat().st_mode & 0o777 for path in sqlite_settings.data_dir.iterdir()}
    assert pragmas == {
        "journal_mode": {"journal_mode": "wal"},
        "synchronous": {"synchronous": 1},
        "foreign_keys": {"foreign_keys": 1},
        "busy_timeout": {"timeout": 10000},
    }
    assert files == {"flotilla.db": 0o600, "flotilla.db-wal": 0o600, "flotilla.db-shm": 0o600}


async def test_a_database_that_is_not_there_is_told_without_the_password(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgres://me:secret@127.0.0.1:1/fleet")

    with pytest.raises(database.DatabaseUnreachable) as told:
        await database.connect(settings, models=SAMPLE)

    assert str(told.value).startswith("The database at 127.0.0.1:1/fleet cannot be opened: ")
    assert "secret" not in str(told.value)
    async with database.database(Settings(data_dir=tmp_path), models=SAMPLE):  # nothing is left of the failed attempt
        assert await database.ping()


async def test_ping_answers_in_time_when_the_server_has_gone_silent(postgres_settings: Settings) -> None:
    silent = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []
    port = int(postgres_settings.database_url.rpartition(":")[2].partition("/")[0])

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if silent.is_set():
            await asyncio.sleep(60)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, upstream_writer))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                if not silent.is_set():
                    sink.write(data)

        await asyncio.gather(copy(reader, upstream_writer), copy(upstream_reader, writer))

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    here = proxy.sockets[0].getsockname()[1]
    settings = replace(
        postgres_settings,
        database_url=postgres_settings.database_url.replace(f":{port}/", f":{here}/"),
        database_command_timeout_s=4.0,
        database_connect_timeout_s=10.0,
        database_acquire_timeout_s=4.0,
    )
    async with database.database(settings, models=SAMPLE):
        assert await database.ping(timeout_s=30)
        silent.set()
        started = time.monotonic()
        assert [await database.ping(timeout_s=0.3) for _ in range(3)] == [False] * 3
        assert time.monotonic() - started < 12  # three commands, if it waited for them
        with pytest.raises(TimeoutError):
            async with transaction():
                await sql.rows("SELECT 1")
        assert time.monotonic() - started < 60
        silent.clear()
        async with asyncio.timeout(60):
            while not await database.ping(timeout_s=0.5):
                await asyncio.sleep(0.05)
    proxy.close()
    for writer in writers:
        writer.close()
