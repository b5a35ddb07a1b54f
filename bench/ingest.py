"""Events of a thousand devices, each waiting for its commit: the flusher against what the database does with the same rows bare.

Peers: COPY, the flusher's own INSERT … SELECT unnest without its bookkeeping, and Tortoise's bulk_create, all in batches of 500 into the
same table, one commit a batch, in one process after the other. Then the whole road: device socket in, commit, acknowledgement out.
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

from bench import load
from bench.load import PRODUCT, Devices, Used, compiled, device_ids, furnished, server
from bench.results import Measured, paired, write
from models.database import database
from models.log import LogEntry
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
    "ours": ours,
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
        print(json.dumps(asyncio.run(MODES[mode](settings, asked.seconds))))
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
        return found | {"per_cpu_s": found["acked"] / (Used.of(process.pid).cpu_s - before.cpu_s)}


def _report(rounds: list[dict[str, Rates]], sockets: dict[str, Any], devices: int) -> None:
    rate = statistics.median(each["ours"]["per_s"] for each in rounds)
    measured = [
        Measured(f"flusher / {peer}", paired(rounds, lambda each, peer=peer: each["ours"]["per_s"] / each[peer]["per_s"]))  # type: ignore[misc]  # mypy cannot infer a bound lambda
        for peer in list(MODES)[1:]
    ]
    notes = [
        f"flusher {rate:,.0f}/s, {statistics.median(each['ours']['per_cpu_s'] for each in rounds):,.0f} per CPU second of its process",
        f"{devices:,} device sockets in → commit → ack: {sockets['per_s']:,.0f}/s, {sockets['per_cpu_s']:,.0f} per CPU second of"
        f" the server, p50 {sockets['p50_ms']:.0f} ms, p99 {sockets['p99_ms']:.0f} ms",
    ]
    write("ingest", f"{PUBLISHERS:,} publishers, {len(rounds)} rounds", measured, notes, with_=load.versions())


if __name__ == "__main__":
    main(sys.argv[1:])
