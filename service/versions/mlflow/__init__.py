"""Synchronisation with the MLflow model registry: versions published, aliases followed."""
