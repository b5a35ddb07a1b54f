"""Runs a benchmark by its name: `python -m bench import`."""

import importlib
import sys

BENCHMARKS = {"import": "bench.importing:main", "query": "bench.querying:main", "embedded": "bench.querying:embedded"}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"Name a benchmark: {', '.join(BENCHMARKS)}.")
    module, _, function = BENCHMARKS[name].partition(":")
    getattr(importlib.import_module(module), function)(sys.argv[2:])
