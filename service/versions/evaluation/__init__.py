"""Scheduled model evaluation: compare lines, check drift, decide on promotion, apply it."""
