"""The benchmarks of the streams run: tiny, whatever the figures are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import fanning_out
from bench.fanning_out import BURSTS, FANOUT, LATENCY, NODE, PEERS, STREAMS, Bench

ONCE = [FANOUT, replace(BURSTS, servers=("ours", "C")), replace(STREAMS, servers=("ours", "Strawberry")), LATENCY]  # each server is tried


@pytest.mark.parametrize("bench", ONCE, ids=lambda bench: bench.name)
def test_each_server_delivers_every_event_to_every_subscriber(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (PEERS / "node_modules" / "installed-from").exists():  # tests install nothing for a benchmark
        monkeypatch.setattr(fanning_out.shutil, "which", lambda name: None)
    servers = [server for server in fanning_out.prepare(tmp_path) if server in bench.servers]
    (found,) = fanning_out.measure(bench, tmp_path, servers, subscribers=7, events=10, rounds=1)

    assert set(bench.servers) - set(found) <= set(NODE)
    assert all(each.rate > 0 and each.cpu_us >= 0 and 0 < each.p50_ms <= each.p99_ms for each in found.values())
    assert all(270 < each.frame_bytes < 350 for each in found.values()), {name: each.frame_bytes for name, each in found.items()}


def test_results_of_one_benchmark_take_the_place_of_its_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(fanning_out, "RESULTS", results)
    results.write_text("# Results\n\n| import |\n")
    for bench, text in ((FANOUT, "old"), (BURSTS, "kept"), (FANOUT, "new")):
        fanning_out._keep(bench, f"## {bench.name}: what\n\n{text}\n")

    assert results.read_text() == "# Results\n\n| import |\n\n## fanout: what\n\nnew\n\n## bursts: what\n\nkept\n"


def test_the_peers_are_installed_from_a_lock() -> None:
    wanted = json.loads((PEERS / "package.json").read_text())["dependencies"]
    locked = json.loads((PEERS / "package-lock.json").read_text())["packages"]

    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
