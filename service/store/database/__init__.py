"""Connections, transactions and compiled statements, on SQLite and PostgreSQL."""
