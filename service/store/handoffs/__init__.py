"""Rows of handoffs and of agents' notes."""
