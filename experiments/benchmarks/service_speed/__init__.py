"""Benchmarks of speed, cost, recovery and scale of the running service."""
