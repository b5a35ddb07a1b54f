"""Runs a benchmark by its name: `python -m bench import`."""

import importlib
import sys

BENCHMARKS = {
    "bursts": "bench.fanning_out:bursts",
    "devices": "bench.devices:main",
    "embedded": "bench.querying:embedded",
    "fanout": "bench.fanning_out:fanout",
    "growth": "bench.growth:main",
    "import": "bench.importing:main",
    "ingest": "bench.ingest:main",
    "latency": "bench.fanning_out:latency",
    "mutation": "bench.mutating:main",
    "query": "bench.querying:main",
    "storm": "bench.storm:main",
    "streams": "bench.fanning_out:streams",
}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"Name a benchmark: {', '.join(BENCHMARKS)}.")
    module, _, function = BENCHMARKS[name].partition(":")
    getattr(importlib.import_module(module), function)(sys.argv[2:])
