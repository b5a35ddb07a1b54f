"""A page of 50 devices with their firmware and owners, asked of us and of the servers of others over the same rows.

Each server is one process on the same machine and database; in a round they are visited in turn by a compiled client (load.c), so that
only ratios within a round are told. All but PostGraphile, which makes its own schema, look the caller's token up for each request.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from bench import fleet_data
from bench.plotting import bars
from models.database import sqlite_path
from models.migrating import migrate
from settings import Settings
from tests import servers
from tests.house import open_house
from tests.processes import SERVE, ServerProcess, environment_of

HERE = Path(__file__).parent
PEERS = HERE / "peers"
RESULTS = HERE / "RESULTS.md"
WARM_S = 1.0  # before each measurement: caches, plans and connections
PAGE = """query Page($product: Int!, $first: Int!) { product(productId: $product) { devices(first: $first, orderBy: DEVICE_ID) {
  nodes { deviceId name serialNumber platform state development claimedAt reportedProductId firmwareVersion createdAt
          firmware { version title } owner { username } }
  pageInfo { hasNextPage endCursor } } } }"""
POSTGRAPHILE_PAGE = """query Page($first: Int!) { allDevices(first: $first, orderBy: PRIMARY_KEY_ASC, condition: {productId: 1}) {
  nodes { deviceId name serialNumber platform state development claimedAt reportedProductId firmwareVersion createdAt
          firmwareByProductIdAndFirmwareVersion { version title } customerByOwnerId { username } }
  pageInfo { hasNextPage endCursor } } }"""
# What the tables do not say: which firmware a device's version is.
SMART = "COMMENT ON TABLE device IS E'@foreignKey (product_id, firmware_version) references firmware (product_id, version)'"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A server to measure: how it is started, and what it is asked."""

    name: str
    command: tuple[str, ...]
    document: str = PAGE
    ready_path: str = "/"
    databases: tuple[str, ...] = ("postgres", "sqlite")


OURS = Peer("Flotilla", SERVE, ready_path="/readyz")
OTHERS = (
    Peer("mercurius with its JIT", ("node", str(PEERS / "mercurius.mjs"))),
    Peer("graphql-yoga", ("node", str(PEERS / "yoga.mjs"))),
    Peer("PostGraphile 5", ("node", str(PEERS / "postgraphile.mjs")), POSTGRAPHILE_PAGE, databases=("postgres",)),
    Peer("stock Strawberry + Tortoise", (sys.executable, "-m", "bench.peers.stock")),
    Peer("bare asyncpg + msgspec", (sys.executable, "-m", "bench.peers.bare"), databases=("postgres",)),
)


@dataclasses.dataclass(frozen=True)
class Visit:
    """What one server did in one round. `cpu_ms` is its own, for each request."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


class Running:
    """A server that is up, and the requests it is asked with in turn."""

    def __init__(self, peer: Peer, process: ServerProcess, *requests: Path) -> None:
        self.peer = peer
        self._process = process
        self._requests = requests

    def visit(self, client: Path, connections: int, seconds: float) -> Visit:
        self._load(client, connections, WARM_S)
        begin = self._cpu_s()
        done = self._load(client, connections, seconds)
        assert done["requests"], self.peer.name
        cpu_ms = (self._cpu_s() - begin) * 1e3 / done["requests"]
        return Visit(done["requests"] / done["seconds"], done["p50_ms"], done["p99_ms"], cpu_ms)

    def _load(self, client: Path, connections: int, seconds: float) -> dict[str, float]:
        command = [str(client), str(self._process.port), str(connections), str(seconds), *map(str, self._requests)]
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert not found["failed"], f"{self.peer.name}: {self._process.log()[-2000:]}"
        return found

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ── what has to be there ──
def built_client(folder: Path) -> Path:
    client = folder / "load"
    subprocess.run(["cc", "-O2", "-o", str(client), str(HERE / "load.c")], check=True)
    return client


def peers(database: str, wanted: list[str] | None) -> list[Peer]:
    """The servers to measure beside ours on this database: those whose names begin with the words wanted, or all that can run here."""
    found = [each for each in OTHERS if database in each.databases and (wanted is None or each.name.split()[0] in wanted)]
    if any(each.command[0] == "node" for each in found):
        if shutil.which("npm") is None:
            return [each for each in found if each.command[0] != "node"]
        _install(database)
    return found


def _install(database: str) -> None:
    """Fetch the servers of npm, once, and compile their SQLite when it is needed."""
    if not (PEERS / "node_modules").exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=PEERS, check=True)
    if database == "sqlite" and not (PEERS / "node_modules/better-sqlite3/build/Release/better_sqlite3.node").exists():
        subprocess.run(["npm", "rebuild", "better-sqlite3", "--loglevel=error"], cwd=PEERS, check=True)


@contextlib.contextmanager
def furnished(database: str, devices: int, folder: Path) -> Iterator[tuple[Settings, str]]:
    """A database full of devices, and the token that may read them."""
    with ExitStack() as stack:
        settings = dataclasses.replace(Settings(), data_dir=folder, secret_key="k" * 32, billing="off")
        # Counted as everywhere, and never used up.
        settings = dataclasses.replace(settings, requests_per_window=10**9, cost_per_window=10**12)
        if database == "postgres":
            settings = dataclasses.replace(settings, database_url=servers.new_database(stack.enter_context(servers.postgres()).url))
        token = asyncio.run(_fill(settings, devices))
        yield settings, token


async def _fill(settings: Settings, devices: int) -> str:
    await migrate(settings)
    async with open_house(settings) as house:
        token = await fleet_data.furnish(house, devices)
    if not settings.is_sqlite:
        direct = await asyncpg.connect(settings.database_url)
        await direct.execute(SMART)
        await direct.close()
    return token


@contextlib.contextmanager
def running(peer: Peer, settings: Settings, token: str, folder: Path) -> Iterator[Running]:
    """A server that is asked for a page."""
    with serving(peer, settings, folder) as process:
        asked = request_file(folder / f"{peer.name.split()[0]}.http", peer.document, {"product": fleet_data.NUMBER, "first": 50}, token)
        yield Running(peer, process, asked)


@contextlib.contextmanager
def serving(peer: Peer, settings: Settings, folder: Path) -> Iterator[ServerProcess]:
    environment = environment_of(settings) if peer is OURS else _of_a_peer(settings)
    log = folder / f"{peer.name.split()[0]}.log"
    process = ServerProcess(environment, log_path=log, command=peer.command, ready_path=peer.ready_path)
    process.spawn()
    try:
        _wait_for(process)
        yield process
    finally:
        process.kill()


def _of_a_peer(settings: Settings) -> dict[str, str]:
    database = {"SQLITE_FILE": str(sqlite_path(settings))} if settings.is_sqlite else {"DATABASE_URL": settings.database_url}
    return {**database, "NODE_ENV": "production"}


def _wait_for(process: ServerProcess, within_s: float = 30) -> None:
    """Until it listens; that what it then says is right is seen in every answer."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", process.port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(process.log()[-2000:])


def request_file(file: Path, document: str, variables: Mapping[str, object], token: str) -> Path:
    body = json.dumps({"query": document, "variables": variables})
    head = (
        "POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    file.write_text(head + body)
    return file


# ── the rounds ──
Found = dict[tuple[str, int], list[Visit]]  # by server and number of connections


def measure(up: list[Running], client: Path, connections: list[int], rounds: int, seconds: float) -> Found:
    found: Found = {}
    for number in range(rounds):
        turn = number % len(up)
        for count in connections:
            for each in up[turn:] + up[:turn]:
                found.setdefault((each.peer.name, count), []).append(each.visit(client, count, seconds))
        print(f"  round {number + 1} of {rounds}", flush=True)
    return found


def told(database: str, devices: int, found: Found) -> str:
    """The section for RESULTS.md."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    counts = sorted({count for _, count in found})
    rounds = len(next(iter(found.values())))
    lines = [
        f"## {'query' if database == 'postgres' else 'embedded'}: a page of 50 of {devices:,} devices, {database}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {rounds} rounds, Python {platform.python_version()}, {_node()}."
        " The ratio is our rate to theirs: the median of the rounds, and the best.",
        "",
        "| server | connections | ratio | p50 / p99, ms | CPU of the server, ms a request |",
        "| --- | --- | --- | --- | --- |",
    ]
    for count in counts:
        ours = found[OURS.name, count]
        for name in dict.fromkeys(name for name, its in found if its == count):
            lines.append(f"| {name} | {count} | {_ratio(ours, found[name, count], name)} | {_middles(found[name, count])} |")
    return "\n".join(lines) + "\n"


def _ratio(ours: list[Visit], theirs: list[Visit], name: str) -> str:
    if name == OURS.name:
        return "–"
    ratios = [mine.rate / its.rate for mine, its in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} (best {max(ratios):.2f})"


def _middles(visits: list[Visit]) -> str:
    def middle(of: Callable[[Visit], float]) -> float:
        return statistics.median(map(of, visits))

    return f"{middle(lambda v: v.p50_ms):.1f} / {middle(lambda v: v.p99_ms):.1f} | {middle(lambda v: v.cpu_ms):.2f}"


def _node() -> str:
    return "Node " + subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip().lstrip("v")


def medians(found: Found, count: int) -> Mapping[str, float]:
    """Our rate to each server's, the median of the rounds."""
    ours = found[OURS.name, count]
    others = {name: visits for (name, its), visits in found.items() if its == count and name != OURS.name}
    return {name: statistics.median(a.rate / b.rate for a, b in zip(ours, visits, strict=True)) for name, visits in others.items()}


def main(arguments: list[str], database: str = "postgres") -> None:
    parser = argparse.ArgumentParser(prog="bench query", description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--only", nargs="*", help="first words of the servers to measure beside ours")
    parser.add_argument("--dry", action="store_true", help="write no results")
    asked = parser.parse_args(arguments)
    others = peers(database, asked.only)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client = built_client(folder)
        settings, token = stack.enter_context(furnished(database, asked.devices, folder))
        up = [stack.enter_context(running(peer, settings, token, folder)) for peer in (OURS, *others)]
        found = measure(up, client, asked.connections, asked.rounds, asked.seconds)
    section = told(database, asked.devices, found)
    print(section)
    if not asked.dry:
        with RESULTS.open("a") as results:
            results.write(f"\n{section}")
        title = f"Our rate to theirs, {database}, {asked.connections[0]} connection"
        (HERE / f"{'query' if database == 'postgres' else 'embedded'}.svg").write_text(bars(title, medians(found, asked.connections[0])))


def embedded(arguments: list[str]) -> None:
    main(arguments, "sqlite")
