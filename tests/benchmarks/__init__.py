"""Benchmarks: programs that print figures. They are run by hand, and no test depends on a time."""
