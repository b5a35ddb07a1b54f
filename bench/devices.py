"""Ten thousand idle devices on one server process: what each costs in memory, and all of them in CPU.

The peer is the same number of bare sockets accepted by uvicorn's own WebSocket class and an ASGI application that does nothing: no
session, no fleet. Both processes run the same Python, uvicorn and event loop.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench import load
from bench.load import Devices, Used, compiled, furnished, server, settled
from bench.results import Measured, write
from settings import Settings
from tests.processes import ServerProcess

BARE = (
    sys.executable,
    "-m",
    "uvicorn",
    "bench.bare_socket:app",
    "--host",
    "127.0.0.1",
    "--port",
    "{port}",
    "--ws-per-message-deflate",
    "false",
)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench devices", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of which the CPU is read")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compiled(folder)
        with furnished(folder, asked.devices) as settings:
            ours = _cost(_ours(settings, folder), program, asked.devices, asked.idle)
        bare = _cost(_bare(folder), program, asked.devices, asked.idle)
    measured = [
        Measured("KiB a device, all session state", (ours[0],), "target ≤ 26, goal ≤ 4"),
        Measured("KiB a bare socket through ASGI", (bare[0],)),
    ]
    notes = [f"CPU while idle, keep-alive pings among it: {100 * ours[1]:.1f} % of a core; bare {100 * bare[1]:.1f} %"]
    write("devices", f"{asked.devices:,} idle authenticated devices, one process", measured, notes, with_=load.versions())


def _ours(settings: Settings, folder: Path) -> ServerProcess:
    return server(settings, folder)


def _bare(folder: Path) -> ServerProcess:
    return ServerProcess({}, log_path=folder / "bare.log", command=BARE, ready_path="/")


def _cost(process: ServerProcess, program: Path, count: int, idle_s: float) -> tuple[float, float]:
    """KiB a device, and the share of a core that all of them take while they are idle."""
    with process:
        before = settled(process.pid)
        with Devices(program, process.port, count) as devices:
            devices.do("connect 0 200")
            after = settled(process.pid)
            time.sleep(idle_s)
            share = (Used.of(process.pid).cpu_s - after.cpu_s) / idle_s
            state = devices.do("state")
            assert state == {"online": count, "lost": 0}, state
    return (after.rss_mib - before.rss_mib) * 1024 / count, share


if __name__ == "__main__":
    main(sys.argv[1:])
