"""The `baton` command.

Heavy parts are imported by the command that needs them: `baton --help` answers at once, and no
command but `jobs`, `evaluate` and `doctor` pays for importing MLflow.
"""

from __future__ import annotations

from service.cli import benching, keeping, learning, running, sweeping, versions, warm_start
from service.cli.root import app

__all__ = [
    "app",
    "benching",
    "keeping",
    "learning",
    "running",
    "sweeping",
    "versions",
    "warm_start",
]
