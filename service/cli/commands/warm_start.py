"""Command `baton warm-start`: learn from recorded conversations (bootstrapping, transfer)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.cli.commands.models import bar, print_figures
from service.cli.options import Home, Json, Workspace, app, handle_errors, open_store, settings

Pace = Annotated[
    float | None, typer.Option(help="Outcomes a second, 0 for no limit [default: 500]", min=0.0)
]


@app.command("warm-start", epilog="Example: baton warm-start history.parquet --workspace shop")
def warm_start(
    file: Annotated[Path, typer.Argument(help="JSON Lines or Parquet, as `baton export` writes.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="uss, dbdc, mhch or baton")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column that stands in for the outcome, such as mean.")
    ] = None,
    per_second: Pace = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Teach a workspace with recorded conversations and outcomes, before or while it serves.

    The whole file is looked at first; bad lines are named, and then nothing is written. Outcomes
    enter the ledger with the source `history` (`baton rebuild --without-source history` leaves
    them out). Given again, or after it was killed, the command goes on where it was.
    """
    from experiments.datasets.streams import count_conversations
    from service.operations import warm_start as warming

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        source = warming.HistoryFile(file, format_, target)
        with bar() as progress:
            task = progress.add_task("checking", total=count_conversations(file), figures="")

            def on_progress(count: int) -> None:
                progress.update(task, completed=count)

            warming.check(store, workspace, source, on_progress)
            progress.update(task, description="writing", completed=0)
            report = warming.warm_start(
                store,
                workspace,
                source,
                actor="command line",
                progress=on_progress,
                per_second=warming.PER_SECOND if per_second is None else per_second,
            )
        print_figures(asdict(report), json_)
