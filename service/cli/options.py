"""Root of the command-line interface: shared options, settings, and error messages."""

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
from rich.markup import escape

from service.runtime.settings import SettingError, Settings
from service.store.database.transactions import DatabaseError, Store

app = typer.Typer(
    name="baton",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Decide when a support bot should hand over to a person, and learn from every hand-over.",
    epilog="Start with [bold]baton demo[/bold]; every command explains itself with --help.",
)
key_app = typer.Typer(
    no_args_is_help=True, help="Make keys; the routes /v1/keys list and revoke them."
)
app.add_typer(key_app, name="key")

console = Console(stderr=True)

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the installation [default: BATON_HOME or ./.baton]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print plain JSON on standard output.")]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace.")]

EXIT_FAILED, EXIT_USAGE = 1, 2


def settings(**options: Any) -> Settings:
    """Settings of the environment, overridden by options of the command line."""
    for name, setting in Settings.unknown(os.environ).items():
        print_error(f"{name} is no setting", f"is {setting} meant?")
    try:
        return Settings.from_environ(os.environ, **options)
    except SettingError as error:
        raise typer.BadParameter(str(error)) from error


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def open_store(chosen: Settings, workspace: str) -> Store:
    """Open the database of an existing installation. LookupError without it or the workspace."""
    from service.store.ledger import entries

    if not chosen.database and not (chosen.home / "baton.sqlite3").exists():
        raise LookupError(
            f"there is no installation in {chosen.home}; `baton up` makes one, --home names another"
        )
    store = Store(chosen.database_url)
    with store.read() as connection:
        if entries.workspace(connection, workspace) is None:
            names = ", ".join(entries.workspaces(connection))
            raise LookupError(f"there is no workspace {workspace!r}; there are: {names}")
    return store


@contextmanager
def handle_errors() -> Iterator[None]:
    """Errors that a user can mend are one line, not a traceback; the exit status is 1."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except DatabaseError as error:
        print_error(f"the database: {error.orig}", "`baton doctor` looks at it")
        raise typer.Exit(EXIT_FAILED) from error
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        print_error(str(error), getattr(error, "hint", None))
        raise typer.Exit(EXIT_FAILED) from error


def print_error(message: str, hint: str | None) -> None:
    """Print an error on standard error, with what to do about it."""
    console.print(f"[red]baton:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    if hint:
        console.print(f"  {hint}", highlight=False, markup=False, soft_wrap=True)
