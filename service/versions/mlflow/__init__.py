"""MLflow in step with the ledger: versions published, aliases followed."""
