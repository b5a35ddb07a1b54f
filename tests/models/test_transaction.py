"""Transactions: all or nothing, told after the commit, and never left behind on a connection."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tortoise.exceptions import IntegrityError, TransactionManagementError

from models import database, sql
from models.engine import DatabaseBusy
from models.transaction import after_commit, beginning_with, connection, detached, in_transaction, retrying, transaction
from settings import Settings
from tests.connected import until

SAMPLE = ("tests.models.sample_app.tables",)


@pytest.fixture
async def opened(empty_settings: Settings) -> AsyncIterator[Settings]:
    async with database.database(empty_settings, models=SAMPLE):
        key = "INTEGER PRIMARY KEY" if sql.is_sqlite() else "SERIAL PRIMARY KEY"
        await sql.execute(f"CREATE TABLE note (id {key}, text VARCHAR(40) NOT NULL UNIQUE, at TIMESTAMP WITH TIME ZONE)")
        yield empty_settings


async def texts() -> list[str]:
    return [row["text"] for row in await sql.rows("SELECT text FROM note ORDER BY id")]


async def write(text: str) -> None:
    assert await sql.execute("INSERT INTO note (text) VALUES ($1)", [text]) == 1


async def idle_connections() -> tuple[int, int]:
    """(held by somebody, in a transaction on the server)."""
    client = connection()
    if sql.is_sqlite():
        return int(client._lock.locked()), int(client._connection.in_transaction)
    busy = await sql.rows("SELECT 1 AS one FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'")
    return client.lending.lent, len(busy)


async def all_are_idle() -> bool:
    """To wait for after a cancellation: the server learns of it a moment later."""
    return await idle_connections() == (0, 0)


async def test_a_block_is_written_as_a_whole(opened: Settings) -> None:
    async with transaction():
        await write("one")
        await write("two")

    assert await texts() == ["one", "two"]


async def test_a_failed_block_writes_nothing(opened: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with transaction():
            await write("one")
            raise ZeroDivisionError

    assert await texts() == []
    assert await idle_connections() == (0, 0)


async def test_a_block_inside_another_shares_its_fate(opened: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with transaction():
            async with transaction():
                await write("inner")
            raise ZeroDivisionError

    assert await texts() == []


async def test_a_caught_failure_of_an_inner_block_still_rolls_back_the_whole(opened: Settings) -> None:
    with pytest.raises(TransactionManagementError, match="all of it is rolled back"):
        async with transaction():
            await write("outer")
            try:
                async with transaction():
                    await write("inner")
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass

    assert await texts() == []
    assert await idle_connections() == (0, 0)


async def test_what_waits_for_the_commit_runs_after_the_outermost_one(opened: Settings) -> None:
    seen: list[object] = []

    async def told() -> None:
        seen.append((in_transaction(), await texts()))

    async with transaction():
        async with transaction():
            after_commit(told)
            await write("one")
        assert seen == []

    assert seen == [(False, ["one"])]


async def test_what_waits_for_the_commit_never_runs_after_a_rollback(opened: Settings) -> None:
    seen: list[str] = []

    with pytest.raises(ZeroDivisionError):
        async with transaction():
            after_commit(lambda: seen.append("told"))
            raise ZeroDivisionError

    assert seen == []


async def test_an_error_after_the_commit_is_logged_and_hides_no_other(opened: Settings, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def broken() -> None:
        raise ZeroDivisionError

    async with transaction():
        await write("one")
        after_commit(broken)
        after_commit(lambda: seen.append("told"))

    assert seen == ["told"]
    assert await texts() == ["one"]
    assert [record.message for record in caplog.records if record.name == "models.transaction"] == ["A step after the commit failed."]


async def test_waiting_for_a_commit_outside_of_a_transaction_is_a_mistake(opened: Settings) -> None:
    with pytest.raises(RuntimeError, match="needs an open transaction"):
        after_commit(lambda: None)


async def test_three_thousand_cancelled_transactions_leave_every_connection_idle(opened: Settings) -> None:
    """A pool of 5 was wedged after 8 cancelled tasks, SQLite after one: the connection taken before BEGIN was never given back."""
    dice = random.Random(7)

    async def work(number: int) -> None:
        async with transaction():
            await sql.execute("INSERT INTO note (text) VALUES ($1)", [f"n{number}"])
            await asyncio.sleep(0)

    for lot in range(60):
        tasks = [asyncio.create_task(work(lot * 50 + number)) for number in range(50)]
        for task in tasks:
            asyncio.get_running_loop().call_later(dice.random() * 0.02, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)

    await until(all_are_idle)
    async with asyncio.timeout(60):
        for number in range(20):
            async with transaction():
                await write(f"after {number}")


async def test_a_cancelled_task_has_written_all_or_nothing_and_told_exactly_what_it_wrote(opened: Settings) -> None:
    told: list[str] = []
    dice = random.Random(11)

    async def work(number: int) -> None:
        async with transaction():
            await write(f"{number} a")
            await write(f"{number} b")
            after_commit(lambda: told.append(str(number)))

    for lot in range(10):
        tasks = [asyncio.create_task(work(lot * 20 + number)) for number in range(20)]
        for task in tasks:
            asyncio.get_running_loop().call_later(dice.random() * 0.03, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)

    written = await texts()
    assert sorted(written) == sorted(f"{number} {half}" for number in told for half in "ab")


async def test_a_cancelled_bulk_write_leaves_no_transaction_behind(opened: Settings) -> None:
    for wait in (0, 0.0005, 0.001, 0.003):
        records = [(f"{wait} {number}",) for number in range(2000)]
        task = asyncio.create_task(sql.execute_many("INSERT INTO note (text) VALUES ($1)", records))
        await asyncio.sleep(wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert len(await texts()) % 2000 == 0
        await until(all_are_idle)


async def test_a_task_that_inherited_a_transaction_cannot_use_it_after_its_end(opened: Settings) -> None:
    """On SQLite it wrote silently outside of any transaction, on PostgreSQL it failed with a closed connection."""
    gate = asyncio.Event()

    async def late(use: str) -> None:
        await gate.wait()
        if use == "transaction":
            async with transaction():
                await write("late")
        await write("late")

    async with transaction():
        tasks = [asyncio.create_task(late("statement")), asyncio.create_task(late("transaction"))]
        await write("one")
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [TransactionManagementError] * 2
    assert await texts() == ["one"]


async def test_a_detached_task_stands_outside_of_the_callers_transaction(opened: Settings) -> None:
    gate = asyncio.Event()

    async def apart() -> bool:
        await gate.wait()
        inherited = in_transaction()
        async with transaction():
            await write("apart")
        return inherited

    with pytest.raises(ZeroDivisionError):
        async with transaction():
            await write("one")
            task = detached(apart(), name="apart")
            raise ZeroDivisionError
    gate.set()

    assert await task is False
    assert await texts() == ["apart"]


async def test_a_detached_task_needs_no_database() -> None:
    async def work() -> int:
        return 7

    assert await detached(work(), name="work") == 7


async def test_a_refused_row_takes_the_others_of_its_block_along(opened: Settings) -> None:
    with pytest.raises(IntegrityError):
        async with transaction():
            await write("same")
            await write("same")

    assert await texts() == []
    assert await idle_connections() == (0, 0)


async def test_a_deadlock_is_tried_again_until_both_have_written(postgres_settings: Settings) -> None:
    async with database.database(postgres_settings, models=SAMPLE):
        await sql.execute("CREATE TABLE pair (id INT PRIMARY KEY, hits INT NOT NULL)")
        await sql.execute("INSERT INTO pair VALUES (1, 0), (2, 0)")
        tries = 0
        meet = asyncio.Barrier(2)

        async def both(first: int, second: int) -> None:
            async def work() -> None:
                nonlocal tries
                tries += 1
                async with transaction():
                    await sql.execute("UPDATE pair SET hits = hits + 1 WHERE id = $1", [first])
                    if tries <= 2:
                        await meet.wait()
                    await sql.execute("UPDATE pair SET hits = hits + 1 WHERE id = $1", [second])

            await retrying(work)

        await asyncio.gather(both(1, 2), both(2, 1))

        assert [row["hits"] for row in await sql.rows("SELECT hits FROM pair ORDER BY id")] == [2, 2]
        assert tries == 3


async def test_waiting_for_a_connection_is_bounded(opened: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connection()
    hold, count = asyncio.Event(), 1 if sql.is_sqlite() else 5
    holding: list[int] = []

    async def holder() -> None:
        async with transaction():
            holding.append(1)
            await hold.wait()

    holders = [asyncio.create_task(holder()) for _ in range(count)]
    await until(lambda: len(holding) == count)
    monkeypatch.setattr(*((client, "acquire_timeout_s") if sql.is_sqlite() else (client.lending, "_timeout_s")), 0.05)
    with pytest.raises(DatabaseBusy, match="within 0.05 s"):
        await write("never")
    with pytest.raises(DatabaseBusy):
        async with transaction():
            await write("never")
    hold.set()
    await asyncio.gather(*holders)

    assert await texts() == []


async def test_a_statement_stops_after_the_servers_limit(postgres_settings: Settings) -> None:
    async with database.database(postgres_settings, models=SAMPLE):
        settings_of_server = {row["name"]: row["setting"] for row in await sql.rows("SELECT name, setting FROM pg_settings")}

        assert settings_of_server["statement_timeout"] == "5000"
        assert settings_of_server["application_name"] == "flotilla"
        with pytest.raises(asyncpg.QueryCanceledError):
            async with transaction():
                await sql.execute("SET LOCAL statement_timeout = 50")  # milliseconds
                await sql.rows("SELECT pg_sleep(1)")


# ── what a transaction begins with ──
async def test_a_preamble_is_written_with_each_outermost_transaction_of_its_block(opened: Settings) -> None:
    number = iter(range(9))

    async def preamble() -> None:
        await write(f"preamble {next(number)}")

    with beginning_with(preamble):
        async with transaction():
            await write("one")
            async with transaction():
                await write("two")
        with pytest.raises(ZeroDivisionError):
            async with transaction():
                raise ZeroDivisionError
        await detached(_write_in_a_transaction("elsewhere"), name="elsewhere")
    await _write_in_a_transaction("after")

    assert await texts() == ["preamble 0", "one", "two", "elsewhere", "after"]
    assert next(number) == 2


async def test_a_preamble_that_fails_refuses_the_transaction(opened: Settings) -> None:
    async def refuses() -> None:
        await write("preamble")
        raise ZeroDivisionError

    with beginning_with(refuses), pytest.raises(ZeroDivisionError):
        await _write_in_a_transaction("one")

    assert await texts() == []
    assert await idle_connections() == (0, 0)


async def _write_in_a_transaction(text: str) -> None:
    async with transaction():
        await write(text)
