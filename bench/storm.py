"""Ten thousand devices come back after a cut: how many a core takes in, each with an Ed25519 signature, and what others notice of it.

The limit is what libsodium verifies a second on this machine, measured in the same round with the same key and library. First everybody at
once, as fast as a server without a limit on connects can. Then on a server as it is by default: all are cut off and come back with the
0–10 s of jitter the protocol asks of them, while somebody uses the API.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import VerifyKey

from bench import load
from bench.load import SEED, Devices, Used, compiled, furnished, server, settled
from bench.results import Measured, write
from gateway import proofs
from tests.processes import ServerProcess

QUERY = json.dumps({"query": "{ server { version } }"}).encode()
JITTER_MS = 10_000
AT_ONCE = 1000  # handshakes under way; the listening socket's queue is no part of what is measured


def verified_per_cpu_s(count: int = 2000) -> float:
    """What the machine verifies a CPU second now: the bare library, without our parsing."""
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    message = proofs.signed_bytes("n" * 43, "0" * 24)
    signature, public = key.sign(message), VerifyKey(key.public_key().public_bytes_raw())
    begin = time.process_time()
    for _ in range(count):
        public.verify(message, signature)
    return count / (time.process_time() - begin)


class Caller(threading.Thread):
    """Asks the API, and in turn whether the server is ready, which asks the database; each over a connection of its own."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        asked = urllib.request.Request(url + "/graphql", QUERY, {"Content-Type": "application/json"})
        self._requests = itertools.cycle((asked, urllib.request.Request(url + "/readyz")))
        self._is_over = threading.Event()
        self.seconds: list[float] = []
        self.failed = 0

    def run(self) -> None:
        while True:
            begin = time.perf_counter()
            try:
                with urllib.request.urlopen(next(self._requests), timeout=30) as answer:
                    answer.read()
            except OSError:  # any answer but 200 is one, too
                self.failed += 1
            self.seconds.append(time.perf_counter() - begin)
            if self._is_over.wait(0.02):
                return

    def end(self) -> list[float]:
        """The times, the quickest first."""
        self._is_over.set()
        self.join()
        return sorted(self.seconds)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench storm", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jitter", type=float, default=JITTER_MS, help="milliseconds")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compiled(folder)
        with furnished(folder, asked.devices) as settings:
            with server(settings, folder, DEVICE_CONNECTS="1000000") as process, Devices(program, process.port, asked.devices) as devices:
                rounds = [_at_once(process, devices) for _ in range(asked.rounds)]
            with server(settings, folder) as process, Devices(program, process.port, asked.devices) as devices:
                jittered = _with_jitter(process, devices, asked.jitter)
    _report(asked.devices, rounds, jittered)


def _at_once(process: ServerProcess, devices: Devices) -> dict[str, float]:
    """They are cut off first, if they are there."""
    devices.do("drop")
    settled(process.pid)
    limit, before = verified_per_cpu_s(), Used.of(process.pid)
    answer = devices.do(f"connect 0 {AT_ONCE}")
    per_cpu_s = devices.count / Used.of(process.pid).cpu_since(before)
    limit = (limit + verified_per_cpu_s()) / 2
    print(f"  {per_cpu_s:,.0f} a CPU second of the server, {limit:,.0f} signatures; all back in {answer['seconds']:.1f} s", flush=True)
    return {"per_cpu_s": per_cpu_s, "limit": limit, "seconds": answer["seconds"]}


def _with_jitter(process: ServerProcess, devices: Devices, jitter_ms: float) -> dict[str, Any]:
    """They are cut off all at once, and begin to come back before the server has seen the last of them go."""
    devices.do(f"connect 0 {AT_ONCE}")
    devices.do("drop")  # once before: what a server keeps of the log's end is in memory then, as in any that has run for a while
    devices.do(f"connect 0 {AT_ONCE}")
    full = settled(process.pid).rss_mib
    caller = Caller(process.url)
    caller.start()
    devices.do("drop")
    answer = devices.do(f"connect {jitter_ms} {AT_ONCE}")
    waited = caller.end()
    again = settled(process.pid).rss_mib
    state = devices.do("state")
    assert state == {"online": devices.count, "lost": 0}, state
    calls = {"asked": len(waited), "failed": caller.failed, "api_p99_ms": 1000 * waited[int(0.99 * (len(waited) - 1))]}
    return answer | calls | {"rss": again / full, "rss_mib": again}


def _report(count: int, rounds: list[dict[str, float]], jittered: dict[str, Any]) -> None:
    measured = [
        Measured("bare Ed25519 verifications a CPU second", tuple(each["limit"] for each in rounds)),
        Measured("welcomes a CPU second of the server", tuple(each["per_cpu_s"] for each in rounds), "target ≥ 3,000, goal ≥ 6,000"),
    ]
    ratio = statistics.median(each["per_cpu_s"] / each["limit"] for each in rounds)
    seconds = statistics.median(each["seconds"] for each in rounds)
    notes = [
        f"welcomes / verifications: {ratio:.2f}; all at once they were back in {seconds:.1f} s",
        f"with 0–10 s of jitter all are back in {jittered['seconds']:.1f} s (target ≤ 60), {jittered['refused']} turned away at first,"
        f" p99 of a device {jittered['p99_ms']:.0f} ms",
        f"the API meanwhile: {jittered['asked']} requests, {jittered['failed']} failed (target 0), p99 {jittered['api_p99_ms']:.0f} ms"
        f" (target < 1,000); memory {jittered['rss_mib']:.0f} MiB, {jittered['rss']:.2f} × that before the cut (target 0.9 … 1.1)",
    ]
    write("storm", f"{count:,} devices, {len(rounds)} rounds", measured, notes, with_=load.versions())


if __name__ == "__main__":
    main(sys.argv[1:])
