"""Measure the library against stock Pykka and bare threads: `python -m benchmarks`."""
