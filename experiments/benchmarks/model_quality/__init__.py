"""Benchmarks of ranking, calibration, learning curves and recovery after drift."""
