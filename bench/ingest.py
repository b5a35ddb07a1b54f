"""Events of a thousand devices, each waiting for its commit: the flusher against what the database does with the same rows bare.

Peers: COPY, INSERT … SELECT unnest and Tortoise's bulk_create, all in batches of 500 into the same table, one commit a batch, in one
process after the other on the event loop that servers run on. Ours twice: the log's own write, lock and positions included, as the
peers; and the whole flusher, a thousand tasks that wait for it and the reader that reads the log again for subscribers. Then the whole
road: device socket in, commit, acknowledgement out.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench import load
from bench.load import PRODUCT, Devices, Used, compiled, device_ids, furnished, server
from bench.results import Measured, write
from models.database import database
from models.log import LogEntry
from models.transaction import transaction
from realtime import log
from realtime.flusher import BATCH, Flusher
from realtime.log import NewEntry
from settings import Settings
from tests.house import open_house

PUBLISHERS = 1000
COLUMNS = ("product_number", "kind", "name", "published_at", "device_id", "data", "ttl", "firmware_version", "event_key", "tag")
UNNEST = f"""INSERT INTO log_entry ({", ".join(COLUMNS)}) SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::timestamptz[],
             $5::text[], $6::text[], $7::int[], $8::int[], $9::text[], $10::int[])"""
Records = list[tuple[Any, ...]]
Rates = dict[str, float]


class Clock:
    """The time and the CPU that the storing takes, without what opens and closes around it."""

    def __init__(self, seconds: float) -> None:
        self._begin, self._used = time.perf_counter(), time.process_time()
        self._end = self._begin + seconds

    def is_over(self) -> bool:
        return time.perf_counter() >= self._end

    def stored(self, count: int) -> Rates:
        return {"per_s": count / (time.perf_counter() - self._begin), "per_cpu_s": count / (time.process_time() - self._used)}


# ── one run, in a process of its own ──
async def ours(settings: Settings, seconds: float) -> Rates:
    """Publishers that each wait for their commit before they publish again."""
    ids, numbers, run = device_ids(PUBLISHERS), itertools.count(), time.time_ns()

    async def publisher(flusher: Flusher, device_id: str, clock: Clock) -> int:
        done = 0
        while not clock.is_over():
            entry = NewEntry(
                PRODUCT, "event", "temperature", datetime.now(UTC), device_id, "21.5", None, 60, 1, f"ours-{run}-{next(numbers)}"
            )  # fmt: skip
            await flusher.publish(entry)
            done += 1
        return done

    async with open_house(settings) as house:
        clock = Clock(seconds)
        return clock.stored(sum(await asyncio.gather(*(publisher(house.flusher, device_id, clock) for device_id in ids))))


async def log_alone(settings: Settings, seconds: float) -> Rates:
    """A commit of the flusher, with nobody who waits for it."""

    async def store(records: Records) -> None:
        async with transaction():
            await log.copy([NewEntry._make((*record[:6], None, *record[6:9])) for record in records])

    async with database(settings):
        return await _batches(store, "log", seconds)


async def copy(settings: Settings, seconds: float) -> Rates:
    connection = await asyncpg.connect(settings.database_url)

    async def store(records: Records) -> None:
        await connection.copy_records_to_table("log_entry", columns=COLUMNS, records=records)

    return await _batches(store, "copy", seconds)


async def unnest(settings: Settings, seconds: float) -> Rates:
    connection = await asyncpg.connect(settings.database_url)

    async def store(records: Records) -> None:
        await connection.execute(UNNEST, *map(list, zip(*records, strict=True)))

    return await _batches(store, "unnest", seconds)


async def bulk_create(settings: Settings, seconds: float) -> Rates:
    async def store(records: Records) -> None:
        await LogEntry.bulk_create([LogEntry(**dict(zip(COLUMNS, record, strict=True))) for record in records])

    async with database(settings):
        return await _batches(store, "bulk", seconds)


async def _batches(store: Callable[[Records], Awaitable[None]], name: str, seconds: float) -> Rates:
    run = time.time_ns()  # the keys are new in every run
    ids, done, clock = itertools.cycle(device_ids(PUBLISHERS)), 0, Clock(seconds)
    while not clock.is_over():
        records = [
            (PRODUCT, "event", "temperature", datetime.now(UTC), next(ids), "21.5", 60, 1, f"{name}-{run}-{done + place}", place + 1)
            for place in range(BATCH)
        ]
        await store(records)
        done += BATCH
    return clock.stored(done)


Mode = Callable[[Settings, float], Coroutine[Any, Any, Rates]]
MODES: dict[str, Mode] = {
    "flusher": ours,
    "log": log_alone,
    "copy": copy,
    "unnest": unnest,
    "bulk_create": bulk_create,
}


# ── the rounds ──
def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench ingest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--run", nargs=3, metavar=("MODE", "FOLDER", "URL"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.run:
        mode, folder, url = asked.run
        settings = dataclasses.replace(Settings(), data_dir=Path(folder), database_url=url, secret_key="k" * 32, billing="off")
        print(json.dumps(uvloop.run(MODES[mode](settings, asked.seconds))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with furnished(folder, max(PUBLISHERS, asked.devices)) as settings:
            rounds = [_round(settings, asked.seconds, number) for number in range(asked.rounds)]
            sockets = _through_sockets(settings, folder, asked.devices, asked.seconds)
    _report(rounds, sockets, asked.devices)


def _round(settings: Settings, seconds: float, number: int) -> dict[str, Rates]:
    found: dict[str, Rates] = {}
    for mode in list(MODES)[number % 2 :] + list(MODES)[: number % 2]:
        command = [
            sys.executable,
            "-m",
            "bench.ingest",
            "--seconds",
            str(seconds),
            "--run",
            mode,
            str(settings.data_dir),
            settings.database_url,
        ]
        found[mode] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print("  " + ", ".join(f"{mode} {each['per_s']:,.0f}/s" for mode, each in found.items()), flush=True)
    return found


def _through_sockets(settings: Settings, folder: Path, devices: int, seconds: float) -> dict[str, Any]:
    """Each device keeps two events unacknowledged."""
    with server(settings, folder) as process, Devices(compiled(folder), process.port, devices) as fleet:
        fleet.do("connect 0 200")
        before = Used.of(process.pid)
        found = fleet.do(f"publish {seconds} 2")
        assert (found["unanswered"], found["refused"]) == (0, 0), found
        return found | {"per_cpu_s": found["acked"] / Used.of(process.pid).cpu_since(before)}


def _report(rounds: list[dict[str, Rates]], sockets: dict[str, Any], devices: int) -> None:
    def rates(mode: str) -> tuple[float, ...]:
        return tuple(each[mode]["per_cpu_s"] for each in rounds)

    def against(mode: str, unit: str) -> str:
        return f"{statistics.median(each[mode][unit] / each['bulk_create'][unit] for each in rounds):.2f} × bulk_create"

    measured = [
        Measured("COPY", rates("copy")),
        Measured("INSERT … SELECT unnest", rates("unnest")),
        Measured("the log's write", rates("log"), "target ≥ 3 × bulk_create"),
        Measured("flusher, publishers and reader", rates("flusher"), "target ≥ 40,000"),
        Measured("bulk_create", rates("bulk_create")),
        Measured(f"gateway, {devices:,} sockets", (sockets["per_cpu_s"],), "target ≥ 10,000"),
    ]
    wall = ", ".join(f"{mode} {statistics.median(each[mode]['per_s'] for each in rounds):,.0f}" for mode in MODES)
    notes = [
        f"the log's write {against('log', 'per_cpu_s')} by CPU, {against('log', 'per_s')} by the clock;"
        f" the whole flusher {against('flusher', 'per_cpu_s')} and {against('flusher', 'per_s')}",
        f"by the clock, a second, database and client on one machine: {wall}",
        f"{devices:,} device sockets in → commit → ack: {sockets['per_s']:,.0f}/s, p50 {sockets['p50_ms']:.0f} ms,"
        f" p99 {sockets['p99_ms']:.0f} ms with two events of each device under way",
    ]
    work = f"Events a CPU second of the client's process; {PUBLISHERS:,} publishers, {len(rounds)} rounds"
    write("ingest", work, measured, notes, with_=load.versions())


if __name__ == "__main__":
    main(sys.argv[1:])
