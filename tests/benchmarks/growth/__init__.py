"""How search changes while one collection grows. `python -m tests.benchmarks.growth --help` says how to run it."""
