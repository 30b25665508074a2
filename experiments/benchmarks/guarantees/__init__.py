"""Benchmarks of statistical guarantees: simulated rates beside the promised ones."""
