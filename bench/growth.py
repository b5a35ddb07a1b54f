"""What a fleet of 10,000, 100,000 and 1,000,000 devices costs: a page, counts, a release, an offer, a device's status.

The peer is the same server with the smallest fleet. The sizes are visited in turn within a round, each with its own database and house.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.results import Measured, write
from fleet.devices import counting
from fleet.rollouts import staging
from models.account import User
from models.firmware import Firmware
from models.organization import Member
from models.sql import rows
from models.transaction import transaction
from realtime import presence
from settings import Settings
from tests import servers
from tests.house import HouseTester, open_house
from tests.large_fleet import furnish, roll_out

PAGE = "{ product(productId: 1000) { devices(first: 50, orderBy: %s) { nodes { deviceId name online firmwareVersion } } } }"
COUNTS = "{ product(productId: 1000) { fleet { total online quarantined firmwareVersions { version devices online } } } }"
GROUP = '{ product(productId: 1000) { group(name: "all") { path devices(first: 50) { totalCount nodes { deviceId name } } } } }'
REPEAT = 40
ACTS = (
    "page by id",
    "page by last heard",
    "page by name",
    "fleet summary",
    "its numbers alone",
    "count of a group",
    "release",
    "an offer of a rollout",
    "comes online",
)


async def costs(settings: Settings) -> dict[str, float]:
    """Milliseconds of each act, the lower quartile of 40: what else runs here can only add. Through the schema where clients do it so."""
    async with open_house(settings) as house:
        tester = HouseTester(house)
        token = await _owner(tester)
        await counting.fold()  # as the worker does, again and again

        async def ask(document: str) -> None:
            found = await tester.schema.execute(document, context_value=await tester.context(token))
            assert not found.errors, found.errors

        async def release() -> None:
            await tester.do("releaseFirmware", "firmware { version }", token, productId=1000, version=next(versions))

        async def offer() -> None:
            """While nine of ten devices have come back on the version."""
            async with transaction():
                place = await staging.take_place(1, f"{next(devices):024x}", datetime.now(UTC))
                assert place is not None
                assert place.granted

        async def comes_online() -> None:
            async with transaction():
                await presence.came_online({f"{next(devices):024x}": None}, "p", datetime.now(UTC))

        versions, devices = itertools.cycle([1, 2]), iter(range(1, 100 * REPEAT, 2))
        pages = [partial(ask, PAGE % order) for order in ("DEVICE_ID", "LAST_HEARD", "NAME")]
        numbers, in_group = partial(counting.kinds, [1]), partial(ask, GROUP)
        steps: tuple[Callable[[], Awaitable[object]], ...] = (*pages, partial(ask, COUNTS), numbers, in_group, release, offer, comes_online)
        acts = dict(zip(ACTS, steps, strict=True))
        for act in acts.values():  # what is compiled and cached at first sight
            await act()
        found = {name: statistics.quantiles([await _timed(act) for _ in range(REPEAT)])[0] for name, act in acts.items()}
        assert (await rows("SELECT COUNT(*) AS n FROM product_release"))[0]["n"] == 1, "a release is one row, whatever the fleet"
        return found


async def _owner(tester: HouseTester) -> str:
    """The token of an owner of the organization that is there; and two versions to release."""
    token = await tester.person("ann")
    user = await User.get(email="ann@example.com")
    await Member.create(organization_id=1, user=user, role="OWNER", joined_at=datetime.now(UTC))
    for version in (1, 2):
        file: dict[str, Any] = {"file_name": "f.bin", "size": 1, "sha256": f"{version:064x}", "format": "PARTICLE", "verified": True}
        told: dict[str, Any] = {"title": f"V{version}", "title_key": f"v{version}", "description": "", "uploaded_at": datetime.now(UTC)}
        await Firmware.create(product_id=1, version=version, **told, **file)
    return token


async def _timed(act: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await act()
    return (time.perf_counter() - begin) * 1000


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["postgres", "sqlite", "both"], default="both")
    parser.add_argument("--run", nargs=2, metavar=("FOLDER", "URL"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.run:
        print(json.dumps(asyncio.run(costs(_settings(Path(asked.run[0]), asked.run[1])))))
        return
    for database in ("postgres", "sqlite") if asked.database == "both" else (asked.database,):
        _compare(database, asked.sizes, asked.rounds)


def _compare(database: str, sizes: list[int], rounds: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        admin = stack.enter_context(servers.postgres(fsync=True)).url if database == "postgres" else ""
        fleets = {}
        for size in sizes:
            (folder / str(size)).mkdir()
            fleets[size] = _settings(folder / str(size), servers.new_database(admin) if admin else "")
            asyncio.run(furnish(fleets[size], size))
            asyncio.run(roll_out(fleets[size]))
            print(f"{database}: {size:,} devices are there", flush=True)
        seen: list[dict[int, dict[str, float]]] = []
        for number in range(rounds):
            fresh = {size: _copied(settings, folder / f"{size}-{number}", admin) for size, settings in fleets.items()}
            seen.append({size: _in_a_process(settings) for size, settings in fresh.items()})
    measured = [
        Measured(f"{act}, {size:,}", tuple(each[size][act] / each[sizes[0]][act] for each in seen), "0.8 … 1.2 wanted")
        for act in seen[0][sizes[0]]
        for size in sizes[1:]
    ]
    work = f"Milliseconds of one act against the same act among {sizes[0]:,} devices, lower quartiles of {REPEAT}; {rounds} rounds"
    notes = [f"{act}: {seen[-1][sizes[-1]][act]:.2f} ms among {sizes[-1]:,} in the last round" for act in ACTS]
    write(f"growth, {database}", work, measured, notes, with_=f"Python {platform.python_version()}")


def _copied(settings: Settings, folder: Path, admin: str) -> Settings:
    """A copy of the database, so that each round begins with the same."""
    if admin:
        url = servers.new_database(admin, template=servers.database_name(settings.database_url))
        return dataclasses.replace(settings, database_url=url)
    subprocess.run(["cp", "-r", str(settings.data_dir), str(folder)], check=True)
    return dataclasses.replace(settings, data_dir=folder)


def _settings(folder: Path, url: str) -> Settings:
    return dataclasses.replace(Settings(), data_dir=folder, database_url=url, secret_key="k" * 32, rate_limits=False, billing="off")


def _in_a_process(settings: Settings) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.growth", "--run", str(settings.data_dir), settings.database_url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
