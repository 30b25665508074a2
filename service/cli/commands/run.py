"""Commands that run Baton: up (all of it), serve (API), jobs (background tasks), demo."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from experiments.registry.mlflow_server import USER, mlflow_pages_url
from service.cli.options import Home, app, console, handle_errors, settings
from service.operations.supervisor import READY_SECONDS_MAX, Processes, StartError
from service.runtime.first_secrets import mlflow_password
from service.runtime.settings import Settings

Port = Annotated[
    int | None, typer.Option("--port", min=1, max=65535, help="Port of the API [default: 8000]")
]
MlflowPort = Annotated[
    int, typer.Option("--mlflow-port", min=1, max=65535, help="Port of the MLflow server.")
]
LEFT = 12
"""Handoffs that a demo leaves to whoever opens the console."""

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]


@app.command(epilog="Example: baton up --home /srv/baton --port 8000 --mlflow-port 5000")
def up(home: Home = None, port: Port = None, mlflow_port: MlflowPort = 5000) -> None:
    """Run all of Baton on this machine: API, jobs and MLflow, on SQLite. Stop it with Ctrl-C.

    The first start makes the database and makes a key for each role, in keys.json of the home
    folder; a terminal is shown them. A process that ends, or hangs, is started again.
    """
    with handle_errors():
        _stop_on_terminate()
        chosen = settings(home=home, port=port)
        file = chosen.home / "keys.json"
        is_new = not file.exists()
        with Processes(chosen, mlflow_port) as processes:
            _until_ready(processes)
            _addresses(processes, chosen)
            if is_new:
                _first_keys(file)
            _watch(processes)


@app.command(epilog="Example: BATON_DATABASE=postgresql://... baton serve --workers 4")
def serve(
    home: Home = None,
    host: Host = None,
    port: Port = None,
    workers: Annotated[int, typer.Option(help="Processes on this port.", min=1, max=256)] = 1,
    listening: Annotated[int | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run the API alone; jobs and MLflow run elsewhere.

    With --workers several processes share the port, each a replica of the model. On SQLite they
    take turns writing; BATON_DATABASE names a PostgreSQL database, on which they share the work.
    """
    from service.operations.bootstrap import prepare_database
    from service.web.serve.http_server import serve as run
    from service.web.serve.http_server import serve_from
    from service.web.serve.worker_processes import serve_with

    with handle_errors():
        chosen = settings(home=home, host=host, port=port)
        if listening is not None:
            serve_from(chosen, listening, parent)
            return
        prepare_database(chosen)
        if workers > 1:
            serve_with(chosen, workers)
        else:
            run(chosen)


@app.command(epilog="Example: BATON_MLFLOW_URL=http://mlflow:5000 baton jobs")
def jobs(home: Home = None) -> None:
    """Run the background tasks: checkpoints, evaluations, promotion, audits, MLflow, expiry.

    One active process per database: a second one waits until the first has gone.
    """
    from service.jobs.scheduler import run
    from service.operations.bootstrap import prepare_database

    with handle_errors():
        chosen = settings(home=home)
        prepare_database(chosen)
        run(chosen)


@app.command(epilog="Example: baton demo --conversations 300 --seed 7")
def demo(
    home: Annotated[Path, typer.Option(help="Folder for the demo's files.")] = Path(".baton/demo"),
    port: Port = None,
    mlflow_port: MlflowPort = 5000,
    conversations: Annotated[int, typer.Option(help="Simulated conversations.", min=1)] = 800,
    seed: Annotated[int, typer.Option(help="Seed of the simulated world.")] = 3,
    concurrency: Annotated[int, typer.Option(help="Bots at once.", min=1, max=64)] = 4,
    stay: Annotated[bool, typer.Option(help="Stay up afterwards.")] = True,
) -> None:
    """Run all of Baton, let simulated customers, bots and agents play, and stay up.

    The console then shows a queue with a few handoffs left to claim, and what was learned.
    """
    from experiments.simulation.demo import play

    with handle_errors():
        _stop_on_terminate()
        chosen = settings(
            home=home,
            port=port,
            checkpoint_seconds=5.0,
            checkpoint_entries=50,
            evaluate_seconds=10.0,
            demo=True,
        )
        with Processes(chosen, mlflow_port) as processes:
            _until_ready(processes)
            keys = json.loads((chosen.home / "keys.json").read_text())
            summary = play(
                processes.url, keys, conversations, seed, concurrency, console, left=LEFT
            )
            if summary.complete and summary.cost is not None:
                _compare(summary.cost, seed, conversations)
            _addresses(processes, chosen)
            address = f"{processes.url}/console/try"
            console.print(f"try it      {address}: chat as a customer", highlight=False)
            if stay:
                _watch(processes)


def _compare(cost: float, seed: int, conversations: int) -> None:
    """What Baton's decisions cost, beside others' in the same simulated world."""
    from experiments.benchmarks.model_quality.first_month import COSTS, yardstick_costs
    from experiments.simulation.demo import SETTINGS

    with console.status("comparing with others"):
        costs = {"Baton": cost} | yardstick_costs(SETTINGS, seed, conversations)
    console.print(
        f"What decisions cost a conversation ({COSTS.missed:g} a missed one, {COSTS.unneeded:g} a "
        f"needless handoff, {COSTS.ask:g} an offer):",
        highlight=False,
    )
    for name, value in sorted(costs.items(), key=lambda pair: pair[1]):
        style = "bold" if name == "Baton" else "dim"
        console.print(f"  [{style}]{name:<24}{value:.2f}[/]", highlight=False)


def _until_ready(processes: Processes) -> None:
    """Wait for every process, with a line that says for whom."""
    if processes.orphans:
        names = ", ".join(processes.orphans)
        console.print(f"[yellow]ended what an earlier `baton up` had left: {names}[/yellow]")
    until = time.monotonic() + READY_SECONDS_MAX
    with console.status("starting") as status:
        while waiting := processes.not_ready():
            status.update(f"waiting for {', '.join(waiting)}")
            _tell_notices(processes)
            late = time.monotonic() > until
            if late and all(processes.can_do_without(name) for name in waiting):
                console.print(f"[yellow]going on without {', '.join(waiting)}[/yellow]")
                return
            if late:
                raise StartError(
                    f"{', '.join(waiting)} did not answer within {READY_SECONDS_MAX} s; "
                    f"the logs are in {processes.settings.home / 'logs'}"
                )
            time.sleep(0.2)


def _addresses(processes: Processes, chosen: Settings) -> None:
    console.print(f"console     {processes.url}/console", highlight=False, soft_wrap=True)
    console.print("            sign in with the key named agent, or engineer to see more")
    console.print(f"API         {processes.url}/docs", highlight=False, soft_wrap=True)
    pages = mlflow_pages_url(processes.mlflow_url, password=mlflow_password(chosen))
    console.print(f"MLflow      {pages}", highlight=False, soft_wrap=True)
    console.print(f"            sign in as {USER}, with the password named mlflow in keys.json")
    console.print(f"jobs        {processes.jobs_url}/healthz", highlight=False, soft_wrap=True)
    console.print(f"keys        {chosen.home / 'keys.json'}", highlight=False, soft_wrap=True)
    console.print(f"logs        {chosen.home / 'logs'}", highlight=False, soft_wrap=True)


def _first_keys(file: Path) -> None:
    """The first keys, shown when they were made: one for each role of the default workspace."""
    if not console.is_terminal:
        console.print(f"keys        in {file}", highlight=False, soft_wrap=True)
        return
    for role, secret in json.loads(file.read_text()).items():
        console.print(f"{role:<11} {secret}", highlight=False, markup=False, soft_wrap=True)


def _watch(processes: Processes) -> None:
    console.print("Ctrl-C stops all of it.")
    try:
        while True:
            for name in processes.watch():
                console.print(f"[yellow]{name} had ended and was started again[/yellow]")
            _tell_notices(processes)
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("stopping")


def _tell_notices(processes: Processes) -> None:
    for notice in processes.notices:
        console.print(f"[yellow]{escape(notice)}[/yellow]", highlight=False, soft_wrap=True)
    processes.notices.clear()


def _stop_on_terminate() -> None:
    """SIGTERM ends the command as Ctrl-C does, children included."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
