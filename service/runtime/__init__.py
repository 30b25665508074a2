"""What every process has: settings, errors, logs, metrics, ids."""
