"""The command's root: the options that every command shares, and how errors are told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from service.settings import SettingError, Settings

app = typer.Typer(
    name="baton",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Decide when a support bot should hand over to a person, and learn from every hand-over.",
    epilog="Start with [bold]baton demo[/bold]; every command explains itself with --help.",
)
key_app = typer.Typer(no_args_is_help=True, help="Keys: make, list and revoke them.")
app.add_typer(key_app, name="key")

console = Console(stderr=True)

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the installation [default: BATON_HOME or ./.baton]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON on standard output.")]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace.")]

EXIT_FAILED, EXIT_USAGE = 1, 2


def settings(**given: Any) -> Settings:
    """Settings of the environment with what the command line gave."""
    try:
        return Settings.from_environ(os.environ, **given)
    except SettingError as error:
        raise typer.BadParameter(str(error)) from error


def say(figures: Any) -> None:
    """Figures as JSON, on standard output."""
    sys.stdout.write(json.dumps(figures, indent=2, default=str) + "\n")


@contextmanager
def told() -> Iterator[None]:
    """Errors that a user can mend are one line, not a traceback; the exit status is 1."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        console.print(f"[red]baton:[/red] {error}", highlight=False, markup=True)
        hint = getattr(error, "hint", None)
        if hint:
            console.print(f"  {hint}", highlight=False, markup=False)
        raise typer.Exit(EXIT_FAILED) from error
