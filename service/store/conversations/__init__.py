"""Rows of conversations, and the batch: one unit of work for many requests."""
