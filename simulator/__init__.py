"""The reference device: what the demo, the tests and the benchmarks connect."""
