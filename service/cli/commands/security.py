"""Command that shows the security log: `baton security-log`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from service.cli.options import Home, Json, app, handle_errors, open_store, print_json, settings
from service.runtime.settings import INSTALLATION
from service.store import security_log as log

FOLLOW_SECONDS = 1.0


@app.command("security-log", epilog="Example: baton security-log --follow")
def security_log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones.")] = False,
    lines: Annotated[int, typer.Option(help="So many of the newest.", min=0, max=100_000)] = 100,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Show who signed in, was refused, made or revoked keys, read, exported, erased or promoted.

    The log is written by Baton alone, and neither Baton nor plain SQL changes a line of it.
    """
    with handle_errors():
        store = open_store(settings(home=home), INSTALLATION)
        with store.read() as connection:
            rows = log.newest(connection, lines)
        last = rows[-1].id if rows else 0
        _show(rows, json_)
        while follow:
            time.sleep(FOLLOW_SECONDS)
            with store.read() as connection:
                rows = log.after(connection, last)
            last = rows[-1].id if rows else last
            _show(rows, json_)


def _show(rows: Any, as_json: bool) -> None:
    for row in rows:
        at = datetime.fromtimestamp(row.at, UTC).isoformat(timespec="seconds")
        event = row._asdict() | {"at": at}
        if as_json:
            print_json(event)
        else:
            times = f" ({row.count} times)" if row.count > 1 else ""
            parts = (at, row.kind, row.actor, row.subject, row.workspace, row.address)
            typer.echo("  ".join(part for part in parts if part) + times)
