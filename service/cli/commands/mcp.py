"""Command that serves the Model Context Protocol over stdio: `baton mcp`."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from service.cli.options import Home, app, handle_errors, settings

KEY_VARIABLE = "BATON_KEY"


@app.command("mcp", epilog="Example: baton mcp --url http://127.0.0.1:8000 --role bot")
def serve_mcp(
    url: Annotated[
        str | None, typer.Option(help="Where Baton answers [default: of this installation]")
    ] = None,
    role: Annotated[
        str, typer.Option(help=f"Whose key of keys.json to use, where {KEY_VARIABLE} names none.")
    ] = "bot",
    home: Home = None,
) -> None:
    """Serve Baton's tools to an agent's host by MCP on standard input and output.

    The key is BATON_KEY's, or this installation's own. Over HTTP any Baton serves the same at /mcp.
    """
    from service.connections.mcp import stdio

    with handle_errors():
        chosen = settings(home=home)
        key = os.environ.get(KEY_VARIABLE)
        if key is None:
            path = chosen.home / "keys.json"
            try:
                key = json.loads(path.read_text(encoding="utf-8"))[role]
            except (OSError, KeyError, ValueError) as error:
                raise LookupError(f"no key for {role!r} in {path}: set {KEY_VARIABLE}") from error
        stdio.serve(url or f"http://127.0.0.1:{chosen.port}", key)
