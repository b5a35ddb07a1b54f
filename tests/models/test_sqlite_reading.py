"""Reads of SQLite in the event loop's own thread: quick ones alone, and only what is committed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from models import database, sql
from models.transaction import connection, transaction
from settings import Settings

COUNTING = """SELECT COUNT(*) AS n FROM (WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < $1)
              SELECT n FROM counted)"""


@pytest.fixture
async def client(sqlite_settings: Settings) -> AsyncIterator[Any]:
    async with database.database(sqlite_settings, models=("tests.models.sample_app.tables",)):
        await sql.execute("CREATE TABLE note (text VARCHAR(40) NOT NULL)")
        yield connection()


def without_the_other_thread(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise AssertionError("the other thread was asked")

    monkeypatch.setattr(client._connection, "_execute", refused)


async def test_a_quick_read_needs_no_other_thread(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await sql.execute("INSERT INTO note (text) VALUES ($1)", ["one"])

    without_the_other_thread(client, monkeypatch)

    assert await sql.rows("SELECT text FROM note") == [{"text": "one"}]


async def test_a_long_read_is_answered_by_the_other_thread_and_goes_there_at_once_from_then_on(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await sql.rows(COUNTING, [100_000]) == [{"n": 100_000}]

    without_the_other_thread(client, monkeypatch)

    with pytest.raises(AssertionError, match="the other thread was asked"):
        await sql.rows(COUNTING, [1])


async def test_a_statement_is_never_stopped_for_what_it_did_before(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite counts the instructions of a statement over all its calls."""
    without_the_other_thread(client, monkeypatch)

    assert [await sql.rows(COUNTING, [300]) for _ in range(50)] == [[{"n": 300}]] * 50


async def test_a_read_neither_waits_for_an_open_transaction_nor_sees_into_it(client: Any) -> None:
    written, goes_on = asyncio.Event(), asyncio.Event()

    async def writing() -> None:
        async with transaction():
            await sql.execute("INSERT INTO note (text) VALUES ($1)", ["mine"])
            written.set()
            await goes_on.wait()

    writer = asyncio.create_task(writing())
    await written.wait()
    outside = await sql.rows("SELECT text FROM note")
    goes_on.set()
    await writer

    assert outside == []
    assert await sql.rows("SELECT text FROM note") == [{"text": "mine"}]


async def test_what_a_transaction_reads_is_what_it_wrote(client: Any) -> None:
    async with transaction():
        await sql.execute("INSERT INTO note (text) VALUES ($1)", ["mine"])

        assert await sql.rows("SELECT text FROM note") == [{"text": "mine"}]


async def test_a_statement_that_writes_and_returns_is_not_taken_for_a_read(client: Any) -> None:
    assert await sql.rows("INSERT INTO note (text) VALUES ($1) RETURNING text", ["one"]) == [{"text": "one"}]
    assert await sql.rows("SELECT text FROM note") == [{"text": "one"}]
