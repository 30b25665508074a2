"""The dashboard page and its figures."""
