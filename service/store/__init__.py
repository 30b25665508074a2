"""Queries and transactions: the only door to the database, one file per noun."""
