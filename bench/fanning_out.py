"""One event to a thousand subscribers: our road from the log to the sockets against the servers of others and a loop of writes in C.

Servers take turns within a round, each in a process of its own, the same compiled client in front of them. Ours alone commits each event to
a database first and looks every second at what each viewer may. The floor knows no GraphQL: one write() a subscriber.

With latency the delay of each delivery is compared to that of Node's `ws`, which writes the same frames and neither knows GraphQL nor keeps
anything; so ours runs as it is, and once more without the commit.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.plotting import bars

HERE = Path(__file__).parent
PEERS = HERE / "stream_peers"
RESULTS = HERE / "RESULTS.md"
FIELDS = "cursor event { deviceId name data ttl publishedAt }"
OURS = f"subscription {{ events(productId: 1094) {{ {FIELDS} }} }}"
THEIRS = "subscription { events(productId: 1094) { id deviceId name data ttl publishedAt cursor } }"
OURS_EACH = f"subscription {{ events%: events(productId: 1094) {{ {FIELDS} }} }}"
THEIRS_EACH = THEIRS.replace("events(", "events%: events(")
SERVERS: Mapping[str, Sequence[str]] = {
    "ours": (sys.executable, "-m", "bench.stream_peers.ours", "{folder}"),
    "graphql-ws": ("node", str(PEERS / "graphql_ws.mjs")),
    "mercurius": ("node", str(PEERS / "mercurius.mjs")),
    "Strawberry": (sys.executable, "-m", "bench.stream_peers.stock"),
    "websockets.broadcast": (sys.executable, "-m", "bench.stream_peers.broadcast"),
    "C": ("{folder}/floor",),
    "ours, no commit": (sys.executable, "-m", "bench.stream_peers.ours", "{folder}", "unkept"),
    "ws": ("node", str(PEERS / "ws.mjs")),
}
NODE = ("graphql-ws", "mercurius", "ws")
RUN_S = 2.0  # of one server in a round; then no more events are published


@dataclass(frozen=True)
class Bench:
    name: str
    what: str
    events: int  # at most, in RUN_S
    pace: str  # so many under way at a time, or published a second
    servers: Sequence[str]
    subscribers: int = 1000
    is_each_different: bool = False

    @property
    def is_by_the_clock(self) -> bool:
        return self.pace.endswith("/s")


PEERS_OF_ALL = ("ours", "graphql-ws", "mercurius", "Strawberry", "websockets.broadcast", "C")
FANOUT = Bench("fanout", "one event at a time to equal subscriptions", 2000, "1", PEERS_OF_ALL)
BURSTS = Bench("bursts", "20 events under way to equal subscriptions", 4000, "20", PEERS_OF_ALL)
STREAMS = Bench(
    "streams", "one event at a time to as many different ones", 500, "1", ("ours", "graphql-ws", "mercurius", "Strawberry"),
    is_each_different=True,
)  # fmt: skip
LATENCY = Bench("latency", "1,000 events a second, socket in to socket out", 2000, "1000/s", ("ours", "ours, no commit", "ws"), 100)


@dataclass(frozen=True)
class Run:
    """One server's share of a round."""

    rate: float  # deliveries a second
    cpu_us: float  # of the server, for one delivery
    p50_ms: float  # from publishing to the last subscriber; by the clock, to each of them
    p99_ms: float
    frame_bytes: float


# ── one run ──
def run(bench: Bench, server: str, folder: Path, *, subscribers: int, events: int) -> Run:
    is_ours = server.startswith("ours")
    query = (OURS_EACH if bench.is_each_different else OURS) if is_ours else (THEIRS_EACH if bench.is_each_different else THEIRS)
    with tempfile.TemporaryDirectory(dir=folder) as data, _serving(server, folder, Path(data)) as (process, told):
        client = [str(folder / "client"), *map(str, (told["port"], told["publish"], subscribers, events, RUN_S, bench.pace))]
        with subprocess.Popen(
            [*client, str(told.get("token", "")), query], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as measuring:
            assert measuring.stdout is not None
            assert measuring.stdin is not None
            assert measuring.stdout.readline() == "ready\n", f"{server} did not get ready"
            before = _cpu_s(process.pid)
            measuring.stdin.write("go\n")
            measuring.stdin.flush()
            found = json.loads(measuring.stdout.readline())
            spent = _cpu_s(process.pid) - before
    count = found["deliveries"]
    return Run(count / found["seconds"], spent / count * 1e6, found["p50_ms"], found["p99_ms"], found["frame_bytes"])


@contextmanager
def _serving(server: str, folder: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    shutil.copy(folder / "floor", data / "floor")
    command = [word.format(folder=data) for word in SERVERS[server]]
    environment = os.environ | {"NODE_ENV": "production", "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def _cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ── set-up ──
def prepare(folder: Path) -> list[str]:
    """Compile client and floor into `folder` and install the Node peers; the servers that can run here."""
    for name in ("client", "floor"):
        subprocess.run(["cc", "-O2", "-o", str(folder / name), str(PEERS / f"{name}.c")], check=True)
    if shutil.which("node") is None or shutil.which("npm") is None:
        print("NO NODE HERE: graphql-ws and mercurius are left out", file=sys.stderr)
        return [name for name in SERVERS if name not in NODE]
    stamp, lock = PEERS / "node_modules" / "installed-from", PEERS / "package-lock.json"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=PEERS, check=True)
        stamp.write_text(lock.read_text())
    return list(SERVERS)


# ── the rounds ──
def measure(bench: Bench, folder: Path, servers: Sequence[str], *, subscribers: int, events: int, rounds: int) -> list[dict[str, Run]]:
    found: list[dict[str, Run]] = []
    for number in range(rounds):
        order = servers if number % 2 else servers[::-1]
        found.append({server: run(bench, server, folder, subscribers=subscribers, events=events) for server in order})
        line = ", ".join(f"{server} {found[-1][server].rate:,.0f}/s {found[-1][server].cpu_us:.2f} µs" for server in servers)
        print(f"  round {number + 1}: {line}", flush=True)
    return found


def ratios(bench: Bench, rounds: Sequence[Mapping[str, Run]], server: str) -> list[float]:
    """How many times as fast ours is, round by round, the best first: in deliveries a second; by the clock, in the p99 of the delay."""
    if bench.is_by_the_clock:
        return sorted((each[server].p99_ms / each["ours"].p99_ms for each in rounds), reverse=True)
    return sorted((each["ours"].rate / each[server].rate for each in rounds), reverse=True)


def _report(bench: Bench, rounds: Sequence[Mapping[str, Run]], subscribers: int) -> str:
    names = [name for name in rounds[0] if name != "ours"]
    names.sort(key=list(SERVERS).index)
    lines = [
        f"## {bench.name}: {bench.what}, {subscribers:,} subscribers",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}, {len(rounds)} rounds. Medians; “ours ×” is the median and the best of"
        f" the rounds' own ratios of {'the p99 of a delivery' if bench.is_by_the_clock else 'deliveries a second'},"
        " “CPU ×” the median of ours to theirs.",
        f"With {_versions()}.",
        "",
        "| server | ours × | best | deliveries/s | CPU a delivery | CPU × | p50 | p99 | frame |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(bench, rounds, name) for name in ("ours", *names)),
        "",
        f"![{bench.name}]({bench.name}.svg)",
        "",
    ]
    return "\n".join(lines)


def _row(bench: Bench, rounds: Sequence[Mapping[str, Run]], name: str) -> str:
    runs = [each[name] for each in rounds]
    found = ratios(bench, rounds, name)
    spent = statistics.median(each["ours"].cpu_us / each[name].cpu_us if each[name].cpu_us else 0.0 for each in rounds)
    compared = "| | " if name == "ours" else f"| {statistics.median(found):.2f} | {found[0]:.2f} "
    rate, cpu_us, p50_ms, p99_ms = (
        statistics.median(getattr(each, figure) for each in runs) for figure in ("rate", "cpu_us", "p50_ms", "p99_ms")
    )
    frame = f"{runs[0].frame_bytes:.0f} B"
    return f"| {name} {compared}| {rate:,.0f} | {cpu_us:.2f} µs | {spent:.2f} | {p50_ms:.2f} ms | {p99_ms:.2f} ms | {frame} |"


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def _versions() -> str:
    named = [
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("strawberry-graphql", "uvicorn", "websockets")),
    ]
    lock = json.loads((PEERS / "package-lock.json").read_text())["packages"]
    if shutil.which("node"):
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        named += [f"Node {node}", *(f"{name} {lock[f'node_modules/{name}']['version']}" for name in ("graphql-ws", "mercurius", "ws"))]
    return ", ".join(named)


def _keep(bench: Bench, report: str) -> None:
    """In place of what was measured before."""
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    before, begin, rest = text.partition(f"## {bench.name}:")
    after = rest[rest.index("\n## ") + 1 :] if begin and "\n## " in rest else ""
    RESULTS.write_text(before.rstrip() + "\n\n" + report + ("\n" + after if after else ""))


def _main(bench: Bench, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"bench {bench.name}", description=__doc__)
    parser.add_argument("--subscribers", type=int, default=bench.subscribers)
    parser.add_argument("--events", type=int, default=bench.events)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", help="some of them, with commas; ours comes by itself")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True, help="write RESULTS.md and the plot")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = ["ours", *asked.servers.split(",")] if asked.servers else bench.servers
        servers = [each for each in prepare(folder) if each in chosen]
        rounds = measure(bench, folder, servers, subscribers=asked.subscribers, events=asked.events, rounds=asked.rounds)
    report = _report(bench, rounds, asked.subscribers)
    print(report)
    if asked.keep:
        _keep(bench, report)
        compared = {each: statistics.median(ratios(bench, rounds, each)) for each in servers if each != "ours"}
        (HERE / f"{bench.name}.svg").write_text(bars(f"{bench.name}: ours is so many times as fast", compared))


def fanout(arguments: list[str]) -> None:
    _main(FANOUT, arguments)


def bursts(arguments: list[str]) -> None:
    _main(BURSTS, arguments)


def streams(arguments: list[str]) -> None:
    _main(STREAMS, arguments)


def latency(arguments: list[str]) -> None:
    _main(LATENCY, arguments)
