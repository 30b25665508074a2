"""Model commands: replay, evaluate, rollback, rebuild, challenge."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

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
"""Who did it, in the ledger."""

DEFAULT_URL = "http://127.0.0.1:8000"
ADMIN_KEY_HELP = "Admin key [default: from keys.json in the home folder]"


def bar() -> Progress:
    """A progress bar on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
    )


@app.command(epilog="Example: baton replay ../shared/data/uss_sgd.jsonl --json")
def replay(
    stream: Annotated[Path, typer.Argument(help="JSON Lines, one conversation a line.")],
    http: Annotated[bool, typer.Option("--http", help="Play through a running Baton.")] = False,
    url: Annotated[str, typer.Argument(help="Where it runs, with --http.")] = DEFAULT_URL,
    key: Annotated[str | None, typer.Option(help=ADMIN_KEY_HELP)] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Open handoffs, judged by simulated agents.")
    ] = False,
    format_: Annotated[
        str | None, typer.Option("--format", help="uss, dbdc, mhch or baton")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Outcome that stands in, such as mean or strict.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe to learn with.")] = "",
    workspace: Annotated[str | None, typer.Option(help="Workspace [default: a new one]")] = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Play recorded conversations, labels revealed when each ends; print test-then-learn figures.

    Without --http through the bare loop; with it through a running Baton, in a shadow workspace
    of its own. Both give the same probabilities, to the bit. With --live in a live workspace: where
    Baton escalates, a simulated agent judges, and only those conversations are labelled.
    """
    from experiments.datasets.streams import count_conversations, read, recognise
    from experiments.replay import play
    from experiments.replay.stream_measures import StreamMeasures
    from learning.models.recipes import DEFAULT

    with handle_errors():
        if str(stream).startswith(("http:/", "https:/")):  # the address before the stream
            stream, url = Path(url), str(stream).replace(":/", "://", 1)
        name_of_format = format_ or recognise(stream)
        with bar() as progress:
            task = progress.add_task("replay", total=count_conversations(stream), figures="")

            def on_progress(measures: StreamMeasures) -> None:
                loss = measures.newest_loss()
                text = "" if loss is None else f"log loss of the newest {loss:.3f}"
                progress.update(task, completed=measures.conversations, figures=text)

            episodes = read(stream, name_of_format, target)
            by_turn = name_of_format == "mhch"
            if not (http or live):
                played = play.bare(
                    episodes, recipe=recipe or DEFAULT, handoffs=by_turn, progress=on_progress
                )
            else:
                admin = key or _admin_key(settings(home=home).home)
                replay_workspace = workspace or f"replay-{secrets.token_hex(4)}"
                mode = "live" if live else "shadow"
                engineer = play.workspace_key(
                    url, admin, replay_workspace, mode=mode, recipe=recipe
                )
                played = play.through_http(
                    episodes, url, engineer, handoffs=by_turn, live=live, progress=on_progress
                )
        report = played.report.json()
        if played.service is not None:
            report["service"] = played.service.rates()
        print_figures(report, json_)


@app.command(epilog="Example: baton evaluate --workspace default --json")
def evaluate(workspace: Workspace = "default", home: Home = None, json_: Json = False) -> None:
    """Evaluate the serving version now: measures, verdict and evidence, kept for MLflow.

    `baton jobs` does the same on its own clock; this does not wait for it. The verdict says whether
    a challenger should serve, or the version before.
    """
    from service.jobs.maintenance import Maintenance

    with handle_errors():
        chosen = settings(home=home)
        store = open_store(chosen, workspace)
        report = Maintenance(store, chosen).evaluate_one(workspace)
        summary = {
            "position": report.position,
            "verdict": report.verdict,
            "why": report.sentence,
            "lines": {line["role"]: line["measures"]["kept"] for line in report.lines},
        }
        print_figures(summary, json_)


@app.command(epilog='Example: baton rollback --to 3 --reason "wrong labels this morning"')
def rollback(
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
    to: Annotated[int | None, typer.Option(help="Version [default: the one before]")] = None,
    without_agent: Annotated[
        str | None, typer.Option(help="Leave out this agent's outcomes.")
    ] = None,
    without_source: Annotated[
        str | None, typer.Option(help="Leave out outcomes of this source.")
    ] = None,
    from_position: Annotated[
        int | None, typer.Option(help="Leave out from this ledger position ...")
    ] = None,
    to_position: Annotated[int | None, typer.Option(help="... to this one.")] = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Let an earlier version serve again, without what was learned since. Takes effect at once.

    Where outcomes are to be left out, it is the newest version that learned none of them, and jobs
    build a challenger that learns the whole ledger as if they had never come: promote it then.
    """
    from learning.ledger.model_state import Exclusions
    from service.versions import rollback as rollbacks

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        without = Exclusions(without_agent, without_source, from_position, to_position)
        with store.write() as connection:
            switched = rollbacks.roll_back(
                connection,
                workspace,
                to=to,
                without=without,
                actor=ACTOR,
                reason=reason,
            )
        challenger = switched.pop("challenger")
        if challenger is not None:
            switched["challenger"] = challenger["id"]
        print_figures(switched, json_)


@app.command(epilog="Example: baton rebuild --without-agent mallory --promote")
def rebuild(
    recipe: Annotated[str, typer.Option(help="Recipe [default: the serving one]")] = "",
    without_agent: Annotated[
        str | None, typer.Option(help="Leave out this agent's outcomes.")
    ] = None,
    without_source: Annotated[
        str | None, typer.Option(help="Leave out outcomes of this source.")
    ] = None,
    from_position: Annotated[
        int | None, typer.Option(help="Leave out from this ledger position ...")
    ] = None,
    to_position: Annotated[int | None, typer.Option(help="... to this one.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Let the result serve.")] = False,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Learn the whole ledger anew, as a new version: without some outcomes, or by another recipe.

    Corrected and retracted outcomes are always left out.
    """
    from learning.ledger.model_state import Exclusions
    from learning.models.recipes import DEFAULT, get_recipe
    from service.store.ledger import entries, version_rows
    from service.versions import switches
    from service.versions.challengers import challenger_requests
    from service.versions.model_lines import rebuild as learn_anew

    with handle_errors():
        asked_recipe = recipe and get_recipe(recipe).name
        store = open_store(settings(home=home), workspace)
        without = Exclusions(without_agent, without_source, from_position, to_position)
        with store.read() as connection:
            if without.body():
                challenger_requests.first_excluded_position(connection, workspace, without)
            switch = entries.switches(connection, workspace)[-1]
            serving = version_rows.version(connection, workspace, switch.body["version"])
        chosen = asked_recipe or (serving.recipe if serving is not None else DEFAULT)
        with bar() as progress:
            task = progress.add_task("rebuild", total=None, figures="")
            on_progress = partial(_show_progress, progress, task)
            state = learn_anew(store, workspace, chosen, without, on_progress)
        left = ", ".join(f"{name} {value}" for name, value in without.body().items())
        why = f"rebuilt by {chosen}" + (f" without {left}" if left else "")
        checkpoint = switches.SerializedState.of(state)
        with store.write() as connection:
            number = switches.save_version(connection, workspace, checkpoint, line=0, reason=why)
            report: dict[str, Any] = {"version": number, "position": state.position}
            if promote:
                report["switch"] = switches.promote(
                    connection, workspace, number, actor=ACTOR, reason=why
                )
        print_figures(report, json_)


def _show_progress(progress: Progress, task: TaskID, count: int, total: int) -> None:
    progress.update(task, completed=count, total=total)


@app.command(epilog='Example: baton challenge forgetting-4 --reason "refunds have changed"')
def challenge(
    recipe: Annotated[str, typer.Argument(help="Recipe [default: the serving one]")] = "",
    reason: Annotated[str, typer.Option(help="Why; it stands on record.")] = "asked for",
    version: Annotated[int | None, typer.Option(help="A version as it is, instead.")] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="It never learns.")] = False,
    without_agent: Annotated[
        str | None, typer.Option(help="Leave out this agent's outcomes.")
    ] = None,
    without_source: Annotated[
        str | None, typer.Option(help="Leave out outcomes of this source.")
    ] = None,
    from_position: Annotated[
        int | None, typer.Option(help="Leave out from this ledger position ...")
    ] = None,
    to_position: Annotated[int | None, typer.Option(help="... to this one.")] = None,
    close: Annotated[str | None, typer.Option(help="Close this challenger, by its id.")] = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Ask for a challenger, which jobs build, follow and promote once it is proven better.

    It learns in the shadow of the version that serves, up to four of them at once; `baton
    versions` shows how far they are, `--close` ends one.
    """
    from learning.ledger.model_state import Exclusions
    from service.versions.challengers import challenger_requests

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        with store.write() as connection:
            if close is not None:
                row = challenger_requests.close(connection, workspace, close, ACTOR, reason)
            else:
                without = Exclusions(without_agent, without_source, from_position, to_position)
                request = challenger_requests.ChallengerRequest(
                    reason, ACTOR, recipe, without, version, frozen
                )
                row = challenger_requests.open_challenger(connection, workspace, request)
        shown = ("id", "slot", "status", "recipe", "version", "frozen", "without", "why")
        print_figures({name: row[name] for name in shown}, json_)


def _admin_key(home: Path) -> str:
    path = home / "keys.json"
    if not path.exists():
        raise FileNotFoundError(f"no {path}: start Baton with `baton up`, or give --key")
    return str(json.loads(path.read_text())["admin"])


def print_figures(report: dict[str, Any], as_json: bool) -> None:
    """Print a report as JSON, or as lines of name and value, nested names joined by dots."""
    if as_json:
        print_json(report)
        return
    for name, value in _flat(report):
        shown = f"{value:.4f}" if isinstance(value, float) else value
        typer.echo(f"{name:32} {shown}")


def _flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
