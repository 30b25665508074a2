"""Verdicts recorded and corrected; audits, reopenings, annotators, ground truth."""
