"""Anytime-valid tests: promotion of a challenger, the rollback guard, drift."""
