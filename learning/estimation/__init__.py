"""Rates with confidence intervals, audit sampling, and off-policy estimates."""
