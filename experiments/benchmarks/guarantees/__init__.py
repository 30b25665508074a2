"""Benchmarks of statistical guarantees: what is promised, and what was seen."""
