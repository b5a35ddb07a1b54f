"""A million device ids out of a text file, with verdicts, against the database's own bulk load of the same rows.

The peer is PostgreSQL's COPY, and SQLite's executemany in one transaction, into an identical empty table: same columns, indexes and
foreign keys, but nothing counted, no verdicts, no file. Both run in turn, each in a process of its own on a fresh database.
Beside the seconds stand those of CPU, the process's and PostgreSQL's, which other work on the machine does not lengthen.
"""

import argparse
import asyncio
import dataclasses
import json
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version
from typing import Any

import asyncpg

from auth.viewer import Viewer
from bench import cpu
from bench.results import Measured, paired, write
from fleet.imports.importing import Options, import_lines, run_import
from fleet.imports.undoing import run_undo
from models.account import User
from models.database import sqlite_path
from models.device import Device
from models.importing import Import
from models.migrating import migrate
from models.organization import Member, Organization
from models.product import Product
from settings import Settings
from tests import servers
from tests.house import open_house

CHUNK_BYTES = 1 << 16
COLUMNS = ("device_id", "product_id", "created_at", "forced", "import_id")


# ── one run, in a process of its own ──
async def ours(settings: Settings, file: Path) -> float:
    """Seconds from the first byte of the upload to the last verdict."""
    async with open_house(settings) as house:
        product = await Product.get(id=1).select_related("organization")
        user = await User.get(id=1)
        by = Viewer(user=user, members={1: await Member.get(id=1)})
        begin = time.perf_counter()
        row = await import_lines(product, _chunks(file), options=Options(), house=house, by=by)
        await run_import(row.id, house)
        seconds = time.perf_counter() - begin
        done = await Import.get(id=row.id)
        assert (done.state, done.added) == ("FINISHED", done.total), (done.state, done.added, done.error)
        return seconds


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


async def undo(settings: Settings, file: Path) -> float:
    """Seconds to take the whole import back, in the database where it was done."""
    async with open_house(settings):
        begin = time.perf_counter()
        await run_undo(1)
        seconds = time.perf_counter() - begin
        assert await Device.all().count() == 0
        return seconds


async def floor(settings: Settings, file: Path) -> float:
    now = datetime.now(UTC)
    records = [(line, 1, now, False, 1) for line in file.read_text().split()]
    if settings.is_sqlite:
        return _executemany(sqlite_path(settings), [(*record[:2], str(now), *record[3:]) for record in records])
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute("DROP TRIGGER tally_added ON device")
    begin = time.perf_counter()
    await connection.copy_records_to_table("device", columns=list(COLUMNS), records=records)
    seconds = time.perf_counter() - begin
    await connection.close()
    return seconds


def _executemany(path: Path, records: list[tuple[Any, ...]]) -> float:
    connection = sqlite3.connect(path)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("DROP TRIGGER tally_added")
    begin = time.perf_counter()
    connection.executemany(f"INSERT INTO device ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?)", records)
    connection.commit()
    return time.perf_counter() - begin


def _one_run(mode: str, settings: Settings, file: Path) -> None:
    begin = time.process_time()
    seconds = asyncio.run({"ours": ours, "floor": floor, "undo": undo}[mode](settings, file))
    print(json.dumps({"seconds": seconds, "cpu_s": time.process_time() - begin, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    """Of this process alone: what getrusage says begins with the peak of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]  # Linux always says it
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ── the rounds ──
@dataclasses.dataclass(frozen=True)
class Round:
    ours: dict[str, float]
    floor: dict[str, float]

    undo: dict[str, float]

    def __str__(self) -> str:
        runs = {"import": self.ours, "undo": self.undo, "floor": self.floor}
        return ", ".join(f"{name} {run['seconds']:.2f} s ({run['cpu_s']:.2f} of CPU)" for name, run in runs.items())


def measure(fresh: Callable[[], Settings], file: Path, rounds: int, database_pid: int | None) -> list[Round]:
    found = []
    for number in range(rounds):
        runs: dict[str, dict[str, float]] = {}
        for mode in ("ours", "floor") if number % 2 else ("floor", "ours"):
            settings = fresh()
            runs[mode] = _in_a_process(mode, settings, file, database_pid)
            if mode == "ours":
                runs["undo"] = _in_a_process("undo", settings, file, database_pid)
        found.append(Round(**runs))
        print(f"  round {number + 1}: {found[-1]}", flush=True)
    return found


def _in_a_process(mode: str, settings: Settings, file: Path, database_pid: int | None) -> dict[str, float]:
    """`cpu_s` is the database's with the process's own, but for what it needs to start."""
    command = [sys.executable, "-m", "bench.importing", "--run", mode, str(file), str(settings.data_dir), settings.database_url]
    before = cpu.family_s(database_pid)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer | {"cpu_s": answer["cpu_s"] + cpu.family_s(database_pid) - before}


async def _furnish(settings: Settings) -> None:
    await migrate(settings)
    now = datetime.now(UTC)
    async with open_house(settings):
        user = await User.create(email="b@example.com", email_key="b@example.com", name="B", password_hash="", created_at=now)
        team = await Organization.create(slug="bench", name="Bench", created_at=now)
        await Member.create(organization=team, user=user, role="OWNER", joined_at=now)
        await Product.create(number=1000, organization=team, slug="p", name="P", platform="PHOTON", created_at=now)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench import", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["postgres", "sqlite", "both"], default="both")
    parser.add_argument("--run", nargs=4, metavar=("MODE", "FILE", "FOLDER", "URL"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.run:
        mode, file, folder, url = asked.run
        _one_run(mode, dataclasses.replace(Settings(), data_dir=Path(folder), database_url=url, secret_key="k" * 32), Path(file))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "ids.txt"
        chance = random.Random(1)
        file.write_text("\n".join(f"{chance.getrandbits(96):024x}" for _ in range(asked.lines)))
        for database in ("postgres", "sqlite") if asked.database == "both" else (asked.database,):
            print(database)
            server = stack.enter_context(servers.postgres(fsync=True)) if database == "postgres" else None
            rounds = measure(_fresh(server.url if server else "", folder), file, asked.rounds, server.pid if server else None)
            _report(database, asked.lines, rounds)


def _fresh(admin: str, folder: Path) -> Callable[[], Settings]:
    """Makes migrated databases with one product, one a run: PostgreSQL's at the administrator's URL, or files."""
    database = "postgres" if admin else "sqlite"
    base = dataclasses.replace(Settings(), data_dir=folder / f"{database}-template", secret_key="k" * 32)
    base.data_dir.mkdir()
    template = dataclasses.replace(base, database_url=servers.new_database(admin) if admin else "")
    asyncio.run(_furnish(template))
    runs = iter(range(1000))

    def fresh() -> Settings:
        data_dir = folder / f"{database}-{next(runs)}"
        data_dir.mkdir()
        if not admin:
            settings = dataclasses.replace(base, data_dir=data_dir)
            shutil.copy(sqlite_path(template), sqlite_path(settings))
            return settings
        url = servers.new_database(admin, template=servers.database_name(template.database_url))
        return dataclasses.replace(base, data_dir=data_dir, database_url=url)

    return fresh


def _report(database: str, lines: int, rounds: list[Round]) -> None:
    peer, target = ("COPY", "≤ 3.5") if database == "postgres" else ("executemany", "≤ 2")
    measured = [
        Measured("import, CPU", paired(rounds, lambda each: each.ours["cpu_s"] / each.floor["cpu_s"]), f"target {target}"),
        Measured("import, time", paired(rounds, lambda each: each.ours["seconds"] / each.floor["seconds"]), f"target {target}"),
        Measured("undo, CPU", paired(rounds, lambda each: each.undo["cpu_s"] / each.floor["cpu_s"])),
    ]
    peak = max(max(each.ours["peak_mib"], each.undo["peak_mib"]) for each in rounds)
    notes = [f"The last round: {rounds[-1]}", f"Peak memory of the importing process: {peak:.0f} MiB"]
    write(
        f"import, {database}", f"{lines:,} lines, {len(rounds)} rounds, against {peer}", measured, notes, with_=f"Python {python_version()}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
