"""Rows of outcomes, audits, reviews and annotators."""
