"""Benchmark commands: `baton bench`."""
