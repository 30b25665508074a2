"""Rows of the ledger, versions, challengers, MLflow state, and the change log."""
