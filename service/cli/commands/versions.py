"""Version commands: list versions and moves, promote, import, export."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.options import (
    Home,
    Json,
    Workspace,
    app,
    console,
    handle_errors,
    open_store,
    print_json,
    settings,
)

ACTOR = "command line"
Number = Annotated[int, typer.Argument(min=1, help="Number of the version.")]


@app.command(epilog="Example: baton versions --workspace default")
def versions(
    most: Annotated[int, typer.Option(min=1, help="Newest of each that are shown.")] = 20,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """List versions, which of them serves, and every move: when, by whom and why.

    A version is a checkpoint of what was learned. `baton promote` lets one serve, `baton rollback`
    the one before.
    """
    from service.store.ledger import challenger_rows, entries, version_rows
    from service.versions import switch_history
    from service.web.schemas import timed

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        with store.read() as connection:
            serving = entries.switches(connection, workspace)[-1].body["version"]
            rows = [row._asdict() for row in version_rows.versions(connection, workspace, most)]
            moves = switch_history.moves(connection, workspace)[:most]
            row = entries.workspace(connection, workspace)
            head = 0 if row is None else row.head
            building = [
                {"id": row.id, "recipe": row.recipe, "built": row.built, "of": head}
                for row in challenger_rows.of_workspace(connection, workspace)
                if row.status == challenger_rows.ASKED
            ]
        if json_:
            report = {"versions": [*map(timed, rows)], "moves": [*map(timed, moves)]}
            print_json({"serving": serving} | report | {"building": building})
            return
        out = Console(highlight=False)
        out.print(_version_table(rows, serving))
        for challenger in building:
            text = "challenger {id} ({recipe}) is being built: {built} of {of} entries"
            out.print(escape(text.format(**challenger)))
        out.print(_move_table(moves))


@app.command(epilog='Example: baton promote 7 --reason "it is better on refunds"')
def promote(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Let a version serve, with all that was learned since it was made. Takes effect at once.

    `baton versions` lists them. What was learned since then is learned on top of it, so nothing is
    lost.
    """
    from service.versions import switches

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        with store.write() as connection:
            switch = switches.promote(connection, workspace, number, actor=ACTOR, reason=reason)
        _print_report({"switch": switch, "version": number}, json_)


@app.command("import", epilog="Example: baton import ./version-7 --workspace default")
def import_(
    path: Annotated[Path, typer.Argument(help="Folder of a version, or its state.npz.")],
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Bring in a version of another Baton, verified by its digest; it serves once promoted.

    What `baton export --version` wrote, or MLflow has of a version. It keeps what it knows, and
    learns this workspace's outcomes on top.
    """
    from service.versions.mlflow.export_version import import_version

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        _print_report(import_version(store, workspace, path, ACTOR), json_)


@app.command("start-from", epilog="Example: baton start-from shop --workspace shop-fr")
def start_from(
    donor: Annotated[str, typer.Argument(help="The workspace whose model is taken.")],
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="The new workspace.")],
    mode: Annotated[str, typer.Option(help="live or shadow")] = "live",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Make a workspace that begins with another's model as an expert, which is never changed.

    The donor's policy must say `shareable`. The new workspace learns its own outcomes beside it,
    and trusts it as far as it is right. `baton key create --workspace` makes its keys.
    """
    from service.versions.restore import restore
    from service.versions.start_from import Donation, begin_from

    with handle_errors():
        if mode not in ("live", "shadow"):
            raise ValueError(f"there is no mode {mode!r}; use live or shadow")
        store = open_store(settings(home=home), donor)
        donation = Donation.of(donor, restore(store, donor))
        with store.write() as connection:
            is_new = begin_from(connection, workspace, mode, ACTOR, donation)
        report = {"workspace": workspace, "start_from": donor, "version": donation.version}
        report |= {"position": donation.position, "digest": donation.digest, "new": is_new}
        _print_report(report, json_)


def _print_report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        typer.echo(f"{name:10} {value}")


def _version_table(rows: list[dict[str, Any]], serving: int) -> Table:
    table = Table(title="Versions, the newest first", title_justify="left")
    for name in ("version", "recipe", "position", "log loss", "made", "MLflow", "because"):
        table.add_column(name, justify="right" if name in ("version", "position") else "left")
    for row in rows:
        loss = row["metrics"].get("log_loss")
        because = row["reason"] + (f"; blocked: {row['blocked']}" if row["blocked"] else "")
        cells = (
            f"{'> ' if row['number'] == serving else ''}{row['number']}",
            row["recipe"],
            row["position"],
            "" if loss is None else f"{loss:.4f}",
            _time(row["created_at"]),
            row["registry_version"] or "not yet",
            because,
        )
        table.add_row(*(escape(str(cell)) for cell in cells))
    table.caption = "> named by the switch that serves"
    return table


def _move_table(moves: list[dict[str, Any]]) -> Table:
    table = Table(title="Moves, the newest first", title_justify="left")
    for name in ("when", "what", "version", "by", "why"):
        table.add_column(name)
    for move in moves:
        version = move["version"] or f"MLflow's {move['registry_version']}"
        cells = (_time(move["at"]), move["what"], version, move["actor"], move["reason"])
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def exported(number: int, folder: Path, workspace: str, home: Path | None) -> None:
    """`baton export --version`: the version as a folder, and how to use it."""
    from service.versions.mlflow.export_version import export_version

    store = open_store(settings(home=home), workspace)
    tags = export_version(store, workspace, number, folder)
    console.print(
        f"wrote version {number} ({tags['baton.recipe']} at position {tags['baton.position']}, "
        f"digest {tags['baton.digest'][:12]}) to {folder}\n"
        f"  score with it:     mlflow models serve -m {folder} --env-manager local\n"
        f"  into another one:  baton import {folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
