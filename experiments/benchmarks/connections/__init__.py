"""Benchmarks of connections to other systems."""
