"""Challenger models: requested, built, followed in the shadow, closed."""
