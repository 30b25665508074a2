"""Command-line interface: the `baton` command.

Heavy parts are imported by the command that needs them: `baton --help` answers at once, and no
command but `jobs`, `evaluate` and `doctor` pays for importing MLflow.
"""

from __future__ import annotations

from service.cli import admin, models, run, sweep, versions, warm_start
from service.cli.bench import commands
from service.cli.main import app

__all__ = ["admin", "app", "commands", "models", "run", "sweep", "versions", "warm_start"]
