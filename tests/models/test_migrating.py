"""Migrations: whole or not at all, one runner at a time, and nothing lost on the way up, down and up again."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from models import database, sql
from models.drift import drift
from models.migrating import MigrationFailed, migrate, pending
from models.one_process import DataFolderTaken, only_process
from models.transaction import transaction
from settings import Settings

SAMPLE = ("tests.models.sample_app.tables",)
STEPS = "tests.models.sample_app.steps"
ALL = ["0001_parents_and_children", "0002_longer_names", "0003_a_note_on_a_parent"]
ROOT = Path(__file__).parents[2]


async def fill(settings: Settings) -> None:
    """10 parents with 100 children each."""
    async with database.database(settings, models=SAMPLE), transaction():
        parents = [(number, f"parent {number}", f"region {number % 3}", "CALM") for number in range(1, 11)]
        await sql.execute_many("INSERT INTO sample_parent (id, name, region, mood) VALUES ($1, $2, $3, $4)", parents)
        children = [(number, 1 + number % 10, f"child {number}", '{"a": [1, "ü"]}') for number in range(1, 1001)]
        await sql.execute_many("INSERT INTO sample_child (id, parent_id, label, extra) VALUES ($1, $2, $3, $4)", children)


async def contents(settings: Settings) -> dict[str, tuple[int, str]]:
    """Rows and checksum of each table."""
    async with database.opened(settings):
        found = {}
        for table, columns in (("sample_parent", "id, name, region, mood, seen_at"), ("sample_child", "id, parent_id, label, extra")):
            rows = await sql.rows(f"SELECT {columns} FROM {table} ORDER BY id")
            found[table] = (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest())
        return found


def start(settings: Settings, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.models.sample_app.run", str(settings.data_dir), settings.database_url]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hold(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(data_dir)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_a_new_database_gets_every_migration_in_order(empty_settings: Settings) -> None:
    assert await pending(empty_settings, migrations=STEPS) == ALL

    assert await migrate(empty_settings, migrations=STEPS) == ALL

    assert await pending(empty_settings, migrations=STEPS) == []
    assert await migrate(empty_settings, migrations=STEPS) == []


async def test_the_migrated_tables_are_those_of_the_classes(empty_settings: Settings) -> None:
    await migrate(empty_settings, migrations=STEPS)

    assert await drift(empty_settings, models=SAMPLE) == []


async def test_up_down_and_up_again_keeps_every_row(empty_settings: Settings) -> None:
    """Widening a parent's column on SQLite deleted all its children, and lost the unique pair and the indexes."""
    await migrate(empty_settings, "0001_parents_and_children", migrations=STEPS)
    await fill(empty_settings)
    before = await contents(empty_settings)
    assert [count for count, _ in before.values()] == [10, 1000]

    assert await migrate(empty_settings, migrations=STEPS) == ALL[1:]
    assert await contents(empty_settings) == before
    assert await drift(empty_settings, models=SAMPLE) == []
    assert await migrate(empty_settings, ALL[0], migrations=STEPS) == [ALL[2], ALL[1]]
    assert await contents(empty_settings) == before
    assert await migrate(empty_settings, migrations=STEPS) == ALL[1:]

    assert await contents(empty_settings) == before
    assert await drift(empty_settings, models=SAMPLE) == []


async def test_everything_can_be_undone(empty_settings: Settings) -> None:
    await migrate(empty_settings, migrations=STEPS)

    assert await migrate(empty_settings, "zero", migrations=STEPS) == ALL[::-1]

    assert await drift(empty_settings, models=SAMPLE) == ["Table sample_child is missing.", "Table sample_parent is missing."]
    assert await migrate(empty_settings, migrations=STEPS) == ALL


async def test_foreign_keys_are_kept_to_after_a_migration(empty_settings: Settings) -> None:
    await migrate(empty_settings, migrations=STEPS)
    await fill(empty_settings)

    async with database.database(empty_settings, models=SAMPLE):
        assert await sql.execute("DELETE FROM sample_parent WHERE id = $1", [1]) == 1  # its 100 children are not counted
        assert (await sql.rows("SELECT count(*) AS n FROM sample_child"))[0]["n"] == 900


async def test_two_at_once_run_each_migration_once(empty_settings: Settings) -> None:
    runners = [start(empty_settings) for _ in range(2)]
    outcomes = [(runner.communicate(timeout=60), runner.returncode) for runner in runners]

    assert [code for _, code in outcomes] == [0, 0], outcomes
    assert sorted(out.strip() for (out, _), _ in outcomes) == ["", ",".join(ALL)]
    assert await drift(empty_settings, models=SAMPLE) == []


async def test_a_process_killed_in_a_migration_leaves_the_earlier_ones_whole_and_that_one_undone(empty_settings: Settings) -> None:
    await migrate(empty_settings, ALL[0], migrations=STEPS)
    await fill(empty_settings)
    before = await contents(empty_settings)

    killed = start(empty_settings, SAMPLE_CRASH="kill")
    killed.communicate(timeout=60)

    assert killed.returncode == -9
    assert await pending(empty_settings, migrations=STEPS) == [ALL[2]]
    assert await contents(empty_settings) == before
    assert len(await drift(empty_settings, models=SAMPLE)) == 1  # the note
    assert await migrate(empty_settings, migrations=STEPS) == [ALL[2]]
    assert await contents(empty_settings) == before
    assert await drift(empty_settings, models=SAMPLE) == []


async def test_a_failure_before_the_commit_leaves_the_database_as_before(empty_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(empty_settings, ALL[1], migrations=STEPS)
    await fill(empty_settings)
    before, drift_before = await contents(empty_settings), await drift(empty_settings, models=SAMPLE)
    monkeypatch.setenv("SAMPLE_CRASH", "error")

    with pytest.raises(MigrationFailed, match="0003_a_note_on_a_parent failed and was rolled back: ZeroDivisionError: asked for"):
        await migrate(empty_settings, migrations=STEPS)

    assert await pending(empty_settings, migrations=STEPS) == [ALL[2]]
    assert await contents(empty_settings) == before
    assert await drift(empty_settings, models=SAMPLE) == drift_before
    assert [path.name for path in empty_settings.data_dir.iterdir() if "before" in path.name] == []


async def test_on_sqlite_a_failure_undoes_the_whole_run(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(sqlite_settings, ALL[0], migrations=STEPS)
    await fill(sqlite_settings)
    before = await contents(sqlite_settings)
    monkeypatch.setenv("SAMPLE_CRASH", "error")

    with pytest.raises(MigrationFailed):
        await migrate(sqlite_settings, migrations=STEPS)

    assert await pending(sqlite_settings, migrations=STEPS) == ALL[1:]
    assert await contents(sqlite_settings) == before


async def test_a_migration_that_would_leave_rows_pointing_nowhere_is_rolled_back(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(sqlite_settings, ALL[1], migrations=STEPS)
    await fill(sqlite_settings)
    before = await contents(sqlite_settings)
    monkeypatch.setenv("SAMPLE_CRASH", "orphan")

    with pytest.raises(MigrationFailed, match="100 rows would point nowhere .sample_child → sample_parent."):
        await migrate(sqlite_settings, migrations=STEPS)

    assert await contents(sqlite_settings) == before
    assert await pending(sqlite_settings, migrations=STEPS) == [ALL[2]]


async def test_a_target_nobody_knows_is_refused(empty_settings: Settings) -> None:
    with pytest.raises(MigrationFailed, match="Unknown migration target models.0009_nothing"):
        await migrate(empty_settings, "0009_nothing", migrations=STEPS)

    assert await pending(empty_settings, migrations=STEPS) == ALL


async def test_a_running_server_keeps_migrate_away_from_its_file(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.migrating.WAIT_S", 0.1)
    holder = hold(sqlite_settings.data_dir)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"

    with pytest.raises(DataFolderTaken, match=f"in use by process {holder.pid}"):
        await migrate(sqlite_settings, migrations=STEPS)

    holder.communicate("", timeout=60)
    assert await migrate(sqlite_settings, migrations=STEPS) == ALL


async def test_a_server_migrates_under_the_lock_it_holds(sqlite_settings: Settings) -> None:
    with only_process(sqlite_settings.data_dir):
        assert await migrate(sqlite_settings, migrations=STEPS) == ALL


async def test_migrating_disturbs_no_open_database(empty_settings: Settings) -> None:
    await migrate(empty_settings, migrations=STEPS)
    async with database.database(empty_settings, models=SAMPLE):
        assert await pending(empty_settings, migrations=STEPS) == []
        assert await drift(empty_settings, models=SAMPLE) == []
        assert await sql.rows("SELECT id FROM sample_parent") == []


async def test_migrate_refuses_a_sqlite_file_this_process_has_open(sqlite_settings: Settings) -> None:
    async with database.database(sqlite_settings, models=SAMPLE):
        with pytest.raises(RuntimeError, match="comes before connect"):
            await migrate(sqlite_settings, migrations=STEPS)

    assert await pending(sqlite_settings, migrations=STEPS) == ALL


async def test_drift_names_what_is_missing_and_what_is_too_much(empty_settings: Settings) -> None:
    await migrate(empty_settings, migrations=STEPS)
    async with database.opened(empty_settings):
        index = (await sql.rows(INDEX_OF["sqlite" if sql.is_sqlite() else "postgres"]))[0]["name"]
        await sql.execute(f'DROP INDEX "{index}"')
        await sql.execute("CREATE INDEX extra ON sample_child (label)")
        await sql.execute("CREATE TABLE stray (id INT)")

    assert await drift(empty_settings, models=SAMPLE) == [
        "Table stray belongs to no class.",
        "sample_child: index ('parent_id',) is missing.",
        "sample_child: index ('label',) belongs to no class.",
    ]


def test_the_copy_of_the_file_can_be_read_by_its_owner_alone(sqlite_settings: Settings) -> None:
    subprocess.run([sys.executable, "-m", "tests.models.sample_app.run", str(sqlite_settings.data_dir)], cwd=ROOT, check=True)

    path = sqlite_settings.data_dir / "flotilla.db"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


HOLD = """
import sys
from pathlib import Path
from models.one_process import only_process
with only_process(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

INDEX_OF = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'sample_child' AND sql LIKE '%(\"parent_id\")'",
    "postgres": "SELECT indexname AS name FROM pg_indexes WHERE tablename = 'sample_child' AND indexdef LIKE '%(parent_id)'",
}
