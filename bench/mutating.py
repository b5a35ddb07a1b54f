"""lockAndFlash over HTTP, of one device and of a hundred, against stock Strawberry and Tortoise that do the same writes.

Two versions in turn, so that each request locks, cancels the update under way, begins another, and writes the audit and the log. One
connection: the same devices cannot be locked twice at once. Each server gets a database of its own, a copy of the same.
"""

import argparse
import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version

from bench import fleet_data
from bench.querying import OTHERS, OURS, Peer, Running, Visit, built_client, request_file, serving
from bench.results import Measured, paired, write
from models.database import opened, sqlite_path
from models.migrating import migrate
from models.operations import AuditEntry
from models.sql import execute, rows
from settings import Settings
from tests import servers
from tests.house import open_house
from tests.processes import ServerProcess

STOCK = next(each for each in OTHERS if each.name.startswith("stock"))
LOCK = "mutation Lock($input: LockAndFlashInput!) { lockAndFlash(input: $input) { devices { deviceId desiredFirmwareVersion } } }"
SIZES = (1, 100)  # devices in one request
ONLINE = (
    "INSERT INTO presence (device_id, online, epoch, last_heard, last_handshake_at, connects_since, connects)"
    " SELECT device_id, TRUE, 1, $1, $1, $1, 1 FROM device ORDER BY device_id LIMIT 100"
)


@dataclasses.dataclass(frozen=True)
class Round:
    ours: dict[int, Visit]
    stock: dict[int, Visit]


async def _fill(settings: Settings, devices: int) -> tuple[str, list[str]]:
    """The owner's token, and the devices to lock."""
    await migrate(settings)
    async with open_house(settings) as house:
        token = await fleet_data.furnish(house, devices)
        await execute(ONLINE, [datetime.now(UTC)])
        return token, [row["device_id"] for row in await rows("SELECT device_id FROM presence ORDER BY device_id")]


def _requests(name: str, token: str, device_ids: Sequence[str], folder: Path) -> list[Path]:
    found = []
    for version in (1, 2):
        input = {"productId": fleet_data.NUMBER, "firmwareVersion": version, "when": "NOW", "deviceIds": list(device_ids)}
        found.append(request_file(folder / f"{name}-{len(device_ids)}-{version}.http", LOCK, {"input": input}, token))
    return found


async def _written(settings: Settings) -> int:
    async with opened(settings):
        return await AuditEntry.filter(action="device.locked").count()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench mutation", description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--database", choices=["postgres", "sqlite", "both"], default="both")
    asked = parser.parse_args(arguments)
    for database in ("postgres", "sqlite") if asked.database == "both" else (asked.database,):
        _compare(database, asked.devices, asked.rounds, asked.seconds)


def _compare(database: str, devices: int, rounds: int, seconds: float) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client = built_client(folder)
        admin = stack.enter_context(servers.postgres()).url if database == "postgres" else ""
        settings = dataclasses.replace(Settings(), data_dir=folder / "ours", secret_key="k" * 32, rate_limits=False, billing="off")
        settings.data_dir.mkdir()
        if admin:
            settings = dataclasses.replace(settings, database_url=servers.new_database(admin))
        token, ids = asyncio.run(_fill(settings, devices))
        copy = _copied(settings, folder / "stock", admin)
        processes = {peer: stack.enter_context(serving(peer, its, folder)) for peer, its in ((OURS, settings), (STOCK, copy))}
        requests = {size: _requests("lock", token, ids[:size], folder) for size in SIZES}
        found = [_round(number, processes, requests, client, seconds) for number in range(rounds)]
        least = sum(round(visit.rate * seconds) for each in found for visit in each.ours.values()) // 2
        assert asyncio.run(_written(settings)) > least, "what was answered was not done"
    _report(database, devices, found)


def _round(number: int, processes: dict[Peer, ServerProcess], requests: dict[int, list[Path]], client: Path, seconds: float) -> Round:
    visits: dict[Peer, dict[int, Visit]] = {OURS: {}, STOCK: {}}
    for size, files in requests.items():
        for peer in (OURS, STOCK) if number % 2 else (STOCK, OURS):
            visits[peer][size] = Running(peer, processes[peer], *files).visit(client, 1, seconds)
    print(f"  round {number + 1}: {visits[OURS]} against {visits[STOCK]}", flush=True)
    return Round(visits[OURS], visits[STOCK])


def _copied(settings: Settings, folder: Path, admin: str) -> Settings:
    folder.mkdir()
    copy = dataclasses.replace(settings, data_dir=folder)
    if admin:
        url = servers.new_database(admin, template=servers.database_name(settings.database_url))
        return dataclasses.replace(copy, database_url=url)
    shutil.copy(sqlite_path(settings), sqlite_path(copy))
    return copy


def _report(database: str, devices: int, found: list[Round]) -> None:
    measured, notes = [], []
    for size in SIZES:
        name = f"{size} device{'s' if size > 1 else ''}"
        measured.append(Measured(f"{name}, rate", paired(found, lambda each: each.ours[size].rate / each.stock[size].rate), "≥ 1.5"))  # noqa: B023
        cpu = paired(found, lambda each: each.stock[size].cpu_ms / each.ours[size].cpu_ms)  # noqa: B023  called at once
        measured.append(Measured(f"{name}, CPU saved", cpu, "theirs to ours"))
        of_ours, of_stock = _told(found[-1].ours[size]), _told(found[-1].stock[size])
        notes.append(f"{name}, the last round: {of_ours}; stock {of_stock}")
    work = f"lockAndFlash NOW among {devices:,} devices, one connection, against stock Strawberry + Tortoise, {len(found)} rounds"
    write(f"mutation, {database}", work, measured, notes, with_=f"Python {python_version()}")


def _told(visit: Visit) -> str:
    return f"p50 {visit.p50_ms:.1f} ms, {visit.cpu_ms:.2f} ms of the server's CPU"
