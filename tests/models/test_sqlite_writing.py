"""Quick transactions of SQLite in the event loop's own thread, and the log that no commit has to carry over."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError, TransactionManagementError

from models import database, sql, sqlite_writing
from models.database import sqlite_path
from models.transaction import after_commit, connection, transaction
from settings import Settings
from tests.models.sample_app.tables import Parent


@pytest.fixture
async def client(sqlite_settings: Settings) -> AsyncIterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite_writing, "CARRY_EVERY_S", 3600.0)  # after it a commit may have to wait for the disk
        async with database.database(sqlite_settings, models=("tests.models.sample_app.tables",)):
            await sql.execute("CREATE TABLE note (text VARCHAR(40) NOT NULL UNIQUE)")
            yield connection()


@pytest.fixture
def other(client: Any, sqlite_settings: Settings) -> Any:
    """Another process on the same file."""
    opened = sqlite3.connect(sqlite_path(sqlite_settings), timeout=0, isolation_level=None)
    yield opened
    opened.close()


def without_the_other_thread(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise AssertionError("the other thread was asked")

    monkeypatch.setattr(client._connection, "_execute", refused)


async def write(*texts: str) -> None:
    for text in texts:
        assert await sql.execute("INSERT INTO note (text) VALUES ($1)", [text]) == 1


def texts(opened: Any) -> list[str]:
    return [text for (text,) in opened.execute("SELECT text FROM note ORDER BY text")]


async def test_a_quick_transaction_needs_no_other_thread_and_is_seen_by_others_once_committed(
    client: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_other_thread(client, monkeypatch)
    told: list[list[str]] = []

    async with transaction(quick=True):
        await write("one")
        assert await sql.rows("INSERT INTO note (text) VALUES ($1) RETURNING text", ["two"]) == [{"text": "two"}]
        await sql.execute_many("INSERT INTO note (text) VALUES ($1)", [("three",), ("four",)])
        after_commit(lambda: told.append(texts(other)))
        assert len(await sql.rows("SELECT text FROM note")) == 4
        assert texts(other) == []

    assert told == [["four", "one", "three", "two"]]


async def test_a_quick_transaction_that_fails_writes_nothing_and_leaves_the_connection_free(client: Any, other: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with transaction(quick=True):
            await write("one")
            raise ZeroDivisionError
    with pytest.raises(IntegrityError):
        async with transaction(quick=True):
            await write("two", "two")

    async with transaction():
        await write("three")
    assert texts(other) == ["three"]


async def test_a_quick_transaction_whose_commit_fails_is_rolled_back_and_told_to_nobody(
    client: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    told: list[str] = []
    with monkeypatch.context() as patched, pytest.raises(sqlite3.OperationalError):
        async with transaction(quick=True):
            patched.setattr(client.here, "commit", full)
            await write("one")
            after_commit(lambda: told.append("one"))

    async with transaction(quick=True):
        await write("two")
    assert (texts(other), told) == (["two"], [])


async def test_nobody_reads_into_a_quick_transaction(client: Any) -> None:
    written, goes_on = asyncio.Event(), asyncio.Event()

    async def writing() -> None:
        async with transaction(quick=True):
            await write("mine")
            written.set()
            await goes_on.wait()
            raise ZeroDivisionError

    writer = asyncio.create_task(writing())
    await written.wait()
    reader = asyncio.create_task(sql.rows("SELECT text FROM note"))
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(ZeroDivisionError):
        await writer

    assert await reader == []


async def test_quick_transactions_and_others_take_turns(client: Any, other: Any) -> None:
    async def add(number: int) -> None:
        async with transaction(quick=number % 2 == 0):
            before = (await sql.rows("SELECT COUNT(*) AS n FROM note"))[0]["n"]
            await asyncio.sleep(0)
            await write(f"{before:03}")  # unique: two that read the same number could not both write it

    await asyncio.gather(*(add(number) for number in range(60)))

    assert texts(other) == [f"{number:03}" for number in range(60)]


async def test_while_another_process_writes_the_event_loop_goes_on(client: Any, other: Any) -> None:
    other.execute("BEGIN IMMEDIATE")

    async def writing() -> None:
        async with transaction(quick=True):
            await write("mine")

    writer = asyncio.create_task(writing())
    for _ in range(20):  # had the loop waited for the lock, no turn of it would have passed
        await asyncio.sleep(0.001)
    assert not writer.done()
    other.execute("COMMIT")
    await writer

    assert texts(other) == ["mine"]


async def test_a_disk_that_stalls_is_waited_for_in_the_other_thread(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writing, "STALL_S", -1.0)
    async with transaction(quick=True):
        await write("slow")

    without_the_other_thread(client, monkeypatch)

    with pytest.raises(AssertionError, match="the other thread was asked"):
        async with transaction(quick=True):
            await write("next")


async def test_a_quick_transaction_takes_no_statement_of_the_orm_and_ends_for_good(client: Any) -> None:
    with pytest.raises(TypeError, match=r"models\.sql"):
        async with transaction(quick=True):
            await Parent.create(name="one", region="here")

    async with transaction(quick=True):
        inside = connection()
    with pytest.raises(TransactionManagementError):
        await inside.execute_query("SELECT 1")


# ── the log ──
async def test_the_log_is_carried_over_beside_the_commits_and_begins_anew_when_it_is_long(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writing, "CARRY_EVERY_S", 0.02)
    monkeypatch.setattr(sqlite_writing, "LOG_PAGES", 40)
    path = sqlite_path(sqlite_settings)
    in_the_log = path.with_name(path.name + "-wal")

    def times_begun_anew() -> int:
        with in_the_log.open("rb") as file:
            return int.from_bytes(file.read(16)[12:])

    async with database.database(sqlite_settings, models=("tests.models.sample_app.tables",)):
        await sql.execute("CREATE TABLE note (text VARCHAR(40) NOT NULL UNIQUE)")
        written = 0
        async with asyncio.timeout(60):
            while times_begun_anew() < 2:
                async with transaction(quick=True):
                    await sql.execute("INSERT INTO note (text) VALUES ($1)", [f"{written:030}"])
                written += 1
                await asyncio.sleep(0)

        assert in_the_log.stat().st_size > 40 * 4096
        whole = sqlite3.connect(path)
        assert whole.execute("SELECT COUNT(*), MAX(text) FROM note").fetchone() == (written, f"{written - 1:030}")
        whole.close()
