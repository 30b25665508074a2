"""Command-line interface: the `baton` command; every module of this package adds its commands.

A new command is a function under `@app.command` in a module here, new or not: nothing else names
it. Heavy parts are imported by the command that needs them: `baton --help` answers at once, and no
command but `jobs`, `evaluate` and `doctor` pays for importing MLflow.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from service.cli.options import app

__all__ = ["app"]

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    # These need what only one benchmark pays for.
    if not _module.name.endswith((".job_runner", ".local_service")):
        import_module(_module.name)
