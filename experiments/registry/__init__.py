"""MLflow: versions, aliases and evaluation runs; the only door to mlflow, used by `jobs` alone.

Nothing of Baton depends on what stands here: scoring and learning go on while MLflow is away, and
everything may be asked again until it has worked, with one effect. What a version or an
evaluation is known by is kept in tags, and looked for before anything is made.

Importing `mlflow_client` imports mlflow (2 to 6 s) and does nothing else. MLflow reads
MLFLOW_DISABLE_TELEMETRY when it is imported: the process must have set it to `true` before.
"""
