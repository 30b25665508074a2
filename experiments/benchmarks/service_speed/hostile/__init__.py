"""Abuse test: attackers beside normal load, each with a bounded rate."""
