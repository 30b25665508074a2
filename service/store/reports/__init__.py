"""Aggregate queries for reports and the dashboard."""
