"""Challenger models (champion/challenger): requested, built, run in the shadow, closed."""
