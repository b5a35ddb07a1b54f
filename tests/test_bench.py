"""Every benchmark of devices runs, on a handful of them, and writes its result down; how fast is not asked here."""

import importlib
import shutil
from pathlib import Path

import pytest

from bench import load, results

SMALL = {
    "devices": ["--devices", "20", "--idle", "0.1"],
    "storm": ["--devices", "20", "--rounds", "1", "--jitter", "100"],
    "ingest": ["--devices", "20", "--rounds", "1", "--seconds", "0.3"],
}


@pytest.mark.skipif(shutil.which("cc") is None, reason="NO C COMPILER HERE: the load client of the device benchmarks cannot be built")
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_and_writes_its_ratios_down(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "RESULTS.md"
    monkeypatch.setattr(results, "RESULTS", kept)
    monkeypatch.setattr(load, "REST_S", 0.1)

    importlib.import_module(f"bench.{name}").main(SMALL[name])

    text = kept.read_text()
    assert f"## {name}, " in text
    assert "█" in text
