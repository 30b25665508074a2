"""Commands about what was learned: replay, evaluate, rollback, rebuild."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.main import (
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
        get_recipe = format_ or recognise(stream)
        with bar() as progress:
            task = progress.add_task("replay", total=count_conversations(stream), figures="")

            def shown(tally: StreamMeasures) -> None:
                loss = tally.newest_loss()
                figures = "" if loss is None else f"log loss of the newest {loss:.3f}"
                progress.update(task, completed=tally.conversations, figures=figures)

            episodes, gt = read(stream, get_recipe, target), get_recipe == "mhch"
            if not (http or live):
                played = play.bare(episodes, recipe=recipe or DEFAULT, handoffs=gt, progress=shown)
            else:
                admin = key or _admin_key(settings(home=home).home)
                name = workspace or f"replay-{secrets.token_hex(4)}"
                mode = "live" if live else "shadow"
                engineer = play.workspace_key(url, admin, name, mode=mode, recipe=recipe)
                played = play.through_http(
                    episodes, url, engineer, handoffs=gt, live=live, progress=shown
                )
        found = played.report.json()
        if played.service is not None:
            found["service"] = played.service.rates()
        figures(found, json_)


@app.command(epilog="Example: baton evaluate --workspace default --json")
def evaluate(workspace: Workspace = "default", home: Home = None, json_: Json = False) -> None:
    """Evaluate the serving version now: measures, verdict and evidence, kept for MLflow."""
    from service.jobs.maintenance import Maintenance

    with handle_errors():
        chosen = settings(home=home)
        store = open_store(chosen, workspace)
        report = Maintenance(store, chosen).evaluate_one(workspace)
        found = {
            "position": report.position,
            "verdict": report.verdict,
            "why": report.sentence,
            "lines": {line["role"]: line["measures"]["kept"] for line in report.lines},
        }
        figures(found, json_)


@app.command(epilog='Example: baton rollback --to 3 --reason "wrong labels this morning"')
def rollback(
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
    to: Annotated[int | None, typer.Option(help="Version [default: the one before]")] = None,
    without_agent: Annotated[str | None, typer.Option(help="Repair: leave out this one's.")] = None,
    without_source: Annotated[str | None, typer.Option(help="Leave out this source's.")] = None,
    from_position: Annotated[int | None, typer.Option(help="Leave out from here ...")] = None,
    to_position: Annotated[int | None, typer.Option(help="... to here.")] = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Let an earlier version serve again, without what was learned since. Takes effect at once.

    Where outcomes are to be left out, it is the newest version that learned none of them, and jobs
    build a challenger that learns the whole ledger as if they had never come: promote it then.
    """
    from learning.ledger.model_state import Exclusions
    from service.versions import rollback as repair

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        without = Exclusions(without_agent, without_source, from_position, to_position)
        with store.write() as connection:
            found = repair.roll_back(
                connection,
                workspace,
                to=to,
                without=without,
                actor="command line",
                reason=reason,
            )
        asked = found.pop("challenger")
        if asked is not None:
            found["challenger"] = asked["id"]
        figures(found, json_)


@app.command(epilog="Example: baton rebuild --without-agent mallory --promote")
def rebuild(
    recipe: Annotated[str, typer.Option(help="Recipe [default: the serving one]")] = "",
    without_agent: Annotated[str | None, typer.Option(help="Leave out this agent's.")] = None,
    without_source: Annotated[str | None, typer.Option(help="Leave out this source's.")] = None,
    from_position: Annotated[int | None, typer.Option(help="Leave out from here ...")] = None,
    to_position: Annotated[int | None, typer.Option(help="... to here.")] = None,
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
    from service.versions.model_lines import rebuild as learn

    with handle_errors():
        wanted = recipe and get_recipe(recipe).name
        store = open_store(settings(home=home), workspace)
        without = Exclusions(without_agent, without_source, from_position, to_position)
        with store.read() as connection:
            if without.body():
                challenger_requests.first_excluded_position(connection, workspace, without)
            switch = entries.switches(connection, workspace)[-1]
            serving = version_rows.version(connection, workspace, switch.body["version"])
        chosen = wanted or (serving.recipe if serving is not None else DEFAULT)
        with bar() as progress:
            task = progress.add_task("rebuild", total=None, figures="")
            standing = learn(
                store,
                workspace,
                chosen,
                without,
                lambda done, of: progress.update(task, completed=done, total=of),
            )
        left = ", ".join(f"{name} {value}" for name, value in without.body().items())
        why = f"rebuilt by {chosen}" + (f" without {left}" if left else "")
        packed = switches.SerializedState.of(standing)
        with store.write() as connection:
            number = switches.save_version(connection, workspace, packed, line=0, reason=why)
            found: dict[str, Any] = {"version": number, "position": standing.position}
            if promote:
                found["switch"] = switches.promote(
                    connection, workspace, number, actor="command line", reason=why
                )
        figures(found, json_)


@app.command(epilog='Example: baton challenge forgetting-1 --reason "refunds have changed"')
def challenge(
    recipe: Annotated[str, typer.Argument(help="Recipe [default: the serving one]")] = "",
    reason: Annotated[str, typer.Option(help="Why; it stands on record.")] = "asked for",
    version: Annotated[int | None, typer.Option(help="A version as it is, instead.")] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="It never learns.")] = False,
    without_agent: Annotated[str | None, typer.Option(help="Leave out this agent's.")] = None,
    without_source: Annotated[str | None, typer.Option(help="Leave out this source's.")] = None,
    from_position: Annotated[int | None, typer.Option(help="Leave out from here ...")] = None,
    to_position: Annotated[int | None, typer.Option(help="... to here.")] = None,
    close: Annotated[str | None, typer.Option(help="Close this challenger, by its id.")] = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Ask for a challenger, which jobs build, follow and promote once it is proven better."""
    from learning.ledger.model_state import Exclusions
    from service.versions.challengers import challenger_requests

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        who = "command line"
        with store.write() as connection:
            if close is not None:
                found = challenger_requests.close(connection, workspace, close, who, reason)
            else:
                without = Exclusions(without_agent, without_source, from_position, to_position)
                wish = challenger_requests.ChallengerRequest(
                    reason, who, recipe, without, version, frozen
                )
                found = challenger_requests.open_challenger(connection, workspace, wish)
        shown = ("id", "slot", "status", "recipe", "version", "frozen", "without", "why")
        figures({name: found[name] for name in shown}, json_)


def _admin_key(home: Path) -> str:
    path = home / "keys.json"
    if not path.exists():
        raise FileNotFoundError(f"no {path}: start Baton with `baton up`, or give --key")
    return str(json.loads(path.read_text())["admin"])


def figures(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in _flat(found):
        shown = f"{value:.4f}" if isinstance(value, float) else value
        typer.echo(f"{name:32} {shown}")


def _flat(found: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield within + name, value
