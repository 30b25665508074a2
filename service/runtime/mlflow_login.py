"""Credential of MLflow's one user: from the settings, or the home's file of first keys."""

from __future__ import annotations

import json

from service.runtime.settings import Settings

KEYS_FILE = "keys.json"
"""Where the first keys are, by role, and MLflow's password, by ENTRY: readable by its owner."""

ENTRY = "mlflow"


def mlflow_password(settings: Settings) -> str:
    """The password for MLflow; empty where it asks for none."""
    file = settings.home / KEYS_FILE
    if settings.mlflow_password or not file.exists():
        return settings.mlflow_password
    return str(json.loads(file.read_text()).get(ENTRY, ""))
