"""Secret store of an installation: the file of first keys, by role, and MLflow's password."""

from __future__ import annotations

import fcntl
import json
import os
import secrets as chance
import tempfile
from pathlib import Path

from service.runtime.settings import Settings

KEYS_FILE = "keys.json"
"""Readable by its owner only."""

MLFLOW = "mlflow"


def mlflow_password(settings: Settings) -> str:
    """The password for MLflow's one user; empty where it asks for none."""
    if settings.mlflow_password:
        return settings.mlflow_password
    return read_secrets(settings.home / KEYS_FILE).get(MLFLOW, "")


def prepare_mlflow(settings: Settings) -> str:
    """MLflow's password, made and kept beside the first keys where there is none."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {MLFLOW: "bk_" + chance.token_urlsafe(32)}
    return mlflow_password(settings) or add_secrets(settings.home / KEYS_FILE, made)[MLFLOW]


def read_secrets(path: Path) -> dict[str, str]:
    """All that is in the file. Raises ValueError where it is damaged."""
    try:
        stored: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; restore it, or move it away") from error
    return stored


def add_secrets(path: Path, secrets: dict[str, str]) -> dict[str, str]:
    """Add secrets to the file, all or none; of two processes that do the later finds the other's.
    Gives those of the same names that are in it.
    """
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = secrets | read_secrets(path)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f"{path.name}.", delete=False
        ) as file:
            json.dump(stored, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    return {name: stored[name] for name in secrets}
