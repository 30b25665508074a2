"""Command `baton warm-start`: learn from recorded conversations (bootstrapping, transfer)."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.cli.commands.models import bar, print_figures
from service.cli.options import Home, Json, Workspace, app, handle_errors, open_store, settings

Pace = Annotated[
    float | None, typer.Option(help="Outcomes a second, 0 for no limit [default: 500]", min=0.0)
]


Columns = Annotated[
    list[str] | None,
    typer.Option("--map", help="Of a .csv file: field=Column, such as conversation_id=Ticket."),
]
Authors = Annotated[
    list[str] | None,
    typer.Option("--author", help="Of a .csv file: who speaks, such as Requester=user."),
]


@app.command("warm-start", epilog="Example: baton warm-start history.parquet --workspace shop")
def warm_start(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines or Parquet, as `baton export` writes, or CSV.")
    ],
    format_: Annotated[
        str | None, typer.Option("--format", help="uss, dbdc, mhch or baton")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column that stands in for the outcome, such as mean.")
    ] = None,
    columns: Columns = None,
    authors: Authors = None,
    per_second: Pace = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Teach a workspace with recorded conversations and outcomes, before or while it serves.

    The whole file is looked at first; bad lines are named, and then nothing is written. Outcomes
    enter the ledger with the source `history` (`baton rebuild --without-source history` leaves
    them out). Given again, or after it was killed, the command goes on where it was.

    A .csv file has a message a row, with columns conversation_id, author and text, and if it has
    them id, at, language, verdict, first_needed and escalated; --map names them otherwise.
    """
    from experiments.datasets import csv_history
    from experiments.datasets.streams import count_conversations
    from service.operations import warm_start as warming

    with handle_errors(), tempfile.TemporaryDirectory() as folder:
        store = open_store(settings(home=home), workspace)
        if file.suffix.lower() == ".csv":
            mapping = csv_history.CsvMapping.parse(columns or (), authors or ())
            csv_history.convert(file, Path(folder) / "history.jsonl", mapping)
            file, format_ = Path(folder) / "history.jsonl", "baton"
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
