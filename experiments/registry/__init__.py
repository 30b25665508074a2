"""Model registry and tracking in MLflow: versions, aliases, runs; the only door to mlflow.

Used by what runs (`jobs`), not by experiments alone. Scoring and learning go on while MLflow is
away. Every write is idempotent: the identity of a version or evaluation is kept in tags, and looked
for before anything is created.

Importing `mlflow_client` imports mlflow (2 to 6 s) and does nothing else. MLflow reads
MLFLOW_DISABLE_TELEMETRY when it is imported: the process must have set it to `true` before.
"""
