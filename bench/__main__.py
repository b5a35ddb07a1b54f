"""Runs a benchmark by its name: `python -m bench import`."""

import importlib
import sys

BENCHMARKS = {"growth": "bench.growth", "import": "bench.importing"}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"Name a benchmark: {', '.join(BENCHMARKS)}.")
    importlib.import_module(BENCHMARKS[name]).main(sys.argv[2:])
