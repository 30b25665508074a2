"""Kinds of connectors, each four pure functions: verify, arrive, read, write."""
