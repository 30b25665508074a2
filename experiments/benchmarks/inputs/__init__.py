"""Inputs of benchmarks: feature rows, feedback regimes, VowpalWabbit's format."""
