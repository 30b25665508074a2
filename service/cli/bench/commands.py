"""Benchmarks for users: `baton bench score`, `freshness`, `cost`, `learning`, `first-month`,
`connect`, `soak` and `hostile`.

Those for who changes Baton are `python -m experiments.benchmarks NAME`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from experiments.benchmarks.harness.command_line import (
    BenchmarkResult,
    Rounds,
    Run,
    Seconds,
    Stores,
    Workers,
    benchmark,
    stores,
)
from service.cli.options import app

bench_app = typer.Typer(
    no_args_is_help=True,
    help="Measure speed, cost and learning, beside what people would use instead.",
    epilog="`python -m experiments.benchmarks` has those for who changes Baton.",
)
app.add_typer(bench_app, name="bench")


@benchmark(bench_app, "score", "durable decisions", "baton bench score --json > score.json")
def score(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    store: Stores = None,
    connections: Annotated[list[int] | None, typer.Option(help="[default: 1, 16, 64]")] = None,
    mlflow: Annotated[bool, typer.Option(help="Compare with `mlflow models serve`.")] = True,
    chantilly: Annotated[bool, typer.Option(help="Compare with chantilly (installs it).")] = True,
) -> BenchmarkResult:
    """Durable decisions per second and their latency, beside an empty route, MLflow, chantilly."""
    from experiments.benchmarks.service_speed import score_throughput

    result = score_throughput.run(
        run.folder,
        run.plan(rounds, seconds, store),
        run.on_progress,
        connections=tuple(connections or (1, 16, 64)),
        peers=["mlflow"] * mlflow + ["chantilly"] * (chantilly and not run.quick),
    )
    return BenchmarkResult(result.rows, score_throughput.COLUMNS, result.notes)


@benchmark(bench_app, "freshness", "from outcome to score", "baton bench freshness --outcomes 300")
def freshness(
    run: Run,
    outcomes: Annotated[int, typer.Option(help="On each store.", min=1, max=10_000)] = 300,
    connections: Annotated[int, typer.Option(help="Load on each replica.", min=1, max=64)] = 8,
    store: Stores = None,
) -> BenchmarkResult:
    """From an outcome's acknowledgement to a score that reflects it, under load."""
    from experiments.benchmarks.service_speed import freshness as delays

    count = min(outcomes, 40) if run.quick else outcomes
    rows = delays.run(
        run.folder, stores(store), run.on_progress, outcomes=count, connections=connections
    )
    return BenchmarkResult(rows, delays.COLUMNS)


@benchmark(bench_app, "cost", "what one costs", "baton bench cost --store postgresql")
def cost(
    run: Run, rounds: Rounds = None, seconds: Seconds = 3.0, store: Stores = None
) -> BenchmarkResult:
    """What one message and one outcome cost: processor time, storage, a follower's share."""
    from experiments.benchmarks.service_speed import unit_cost

    plan = run.plan(rounds, seconds, store)
    return BenchmarkResult(unit_cost.run(run.folder, plan, run.on_progress), unit_cost.COLUMNS)


@benchmark(
    bench_app, "learning", "learning, and its goals", "baton bench learning --figures figures"
)
def learning(
    run: Run,
    data: Annotated[Path | None, typer.Option(help="Folder of the data [BATON_DATA]")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Data sets [all]")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write a figure a question there.")] = None,
    seeds: Annotated[int, typer.Option(help="Orders and chances, of all but labels.", min=1)] = 3,
    workers: Workers = 2,
) -> BenchmarkResult:
    """How well Baton learns from late, one-sided labels, beside VowpalWabbit and offline refits."""
    from experiments.benchmarks.model_quality import benchmark as comparison
    from experiments.benchmarks.model_quality import result_pages, target_table
    from experiments.datasets import streams

    folder = str(data or streams.data_folder(os.environ))
    names = comparison.choose_data(sets or ())
    if run.quick:
        plan = comparison.LearningPlan.quick(folder, names, workers)
    else:
        plan = comparison.LearningPlan(folder, names, few=seeds, workers=workers)
    rows = comparison.run(plan, run.on_progress)
    targets = target_table.targets(rows)
    if figures is not None:
        result_pages.write(figures, rows)
    every = [{"question": "targets", **line} for line in targets] + rows
    return BenchmarkResult(targets, target_table.COLUMNS, all=every)


@benchmark(
    bench_app, "first-month", "the first month", "baton bench first-month --seeds 20,21 --json"
)
def first_month(
    run: Run,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "20,21,22",
    deciders: Annotated[str, typer.Option(help="Deciders, with commas between [all]")] = "",
    conversations: Annotated[int, typer.Option(help="Of each seed.", min=1)] = 800,
    base_rate: Annotated[
        float, typer.Option(help="Share of conversations that need a person.", min=0.01, max=0.7)
    ] = 0.2,
    acceptance: Annotated[
        str, typer.Option(help="Shares that accept an offer, when needed and when not.")
    ] = "0.9,0.25",
    stream: Annotated[Path | None, typer.Option(help="Recorded talk instead.")] = None,
    adviser: Annotated[
        float | None,
        typer.Option(
            help="Advice: the truth with noise of this deviation; 100: nothing but noise."
        ),
    ] = None,
    donor: Annotated[
        str | None,
        typer.Option(help="Start from a workspace that heard this seed, or this recorded talk."),
    ] = None,
    workers: Workers = 2,
) -> BenchmarkResult:
    """What decisions cost from the first conversation on, beside the rules and the truth."""
    from experiments.benchmarks.model_quality import first_month as months
    from service.cli.bench.local_service import LocalService

    plan = months.FirstMonthPlan(
        LocalService,
        months.parse_seeds(seeds),
        months.parse_deciders(deciders),
        min(conversations, 60) if run.quick else conversations,
        base_rate,
        months.parse_acceptance(acceptance),
        str(stream) if stream is not None else None,
        adviser,
        donor,
        workers,
    )
    rows = months.run(plan, run.on_progress)
    return BenchmarkResult([*rows, *months.means(rows)], months.COLUMNS, all=rows)


@benchmark(bench_app, "soak", "mixed load", "baton bench soak --minutes 30 --per-second 300")
def soak(
    run: Run,
    minutes: Annotated[float, typer.Option(help="How long.", min=0.05, max=1440)] = 30.0,
    per_second: Annotated[float, typer.Option(help="Decisions asked for.", min=1)] = 300.0,
    store: Annotated[str, typer.Option(help="sqlite or postgresql")] = "sqlite",
) -> BenchmarkResult:
    """Mixed load for half an hour: memory, errors and latency by the minute."""
    from experiments.benchmarks.service_speed import soak as mixed_load

    plan = mixed_load.SoakPlan(
        minutes=min(minutes, 1.0) if run.quick else minutes,
        per_second=per_second,
        store=stores([store])[0],
    )
    result = mixed_load.run(run.folder, plan, run.on_progress)
    notes = [f"{name}: {value}" for name, value in result.verdict.items()]
    return BenchmarkResult(result.rows, mixed_load.COLUMNS, notes)


@benchmark(bench_app, "connect", "events of other systems", "baton bench connect --store sqlite")
def connect(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    store: Stores = None,
    handovers: Annotated[int, typer.Option(help="Timed, under load.", min=10, max=5000)] = 200,
) -> BenchmarkResult:
    """Signed events through inbox, decision and delivery, beside plain scores."""
    from experiments.benchmarks.connections import event_throughput

    count = min(handovers, 20) if run.quick else handovers
    plan = run.plan(rounds, seconds, store)
    rows = event_throughput.run(run.folder, plan, run.on_progress, handovers=count)
    return BenchmarkResult(rows, event_throughput.COLUMNS)


@benchmark(bench_app, "hostile", "attackers beside normal load", "baton bench hostile --minutes 30")
def hostile(
    run: Run,
    minutes: Annotated[float, typer.Option(help="How long.", min=0.05, max=1440)] = 30.0,
    per_second: Annotated[
        float, typer.Option(help="Requests of the normal bot asked for.", min=1)
    ] = 100.0,
    flood: Annotated[
        float, typer.Option(help="Short requests a second of attackers, at most.", min=0.1)
    ] = 300.0,
    giants: Annotated[
        float, typer.Option(help="Requests a second at and beyond the limits of size.", min=0.1)
    ] = 3.0,
    store: Annotated[str, typer.Option(help="sqlite or postgresql")] = "sqlite",
) -> BenchmarkResult:
    """Normal load alone, then beside attackers: its latency, and whether anything was lost.

    Floods, oversized requests, slow clients, wrong keys and forged outcomes come from this machine,
    against a Baton that the benchmark starts and ends. The last lines say what it comes to.
    """
    from experiments.benchmarks.service_speed.hostile import hostile_load

    plan = hostile_load.HostilePlan(
        minutes=min(minutes, 1.0) if run.quick else minutes,
        per_second=per_second,
        flood_per_second=flood,
        giants_per_second=giants,
        store=stores([store])[0],
    )
    result = hostile_load.run(run.folder, plan, run.on_progress)
    notes = [f"{name}: {value}" for name, value in result.verdict.items()]
    return BenchmarkResult(result.rows, hostile_load.COLUMNS, notes)


@benchmark(
    bench_app,
    "versions",
    "versions, as the ledger grows",
    "baton bench versions --entries 100000",
    hidden=True,
)
def versions(
    run: Run,
    rounds: Rounds = None,
    entries: Annotated[list[int] | None, typer.Option(help="Ledger entries")] = None,
    lessons: Annotated[int | None, typer.Option(help="Lessons to rebuild [1000000]", min=1)] = None,
    recipe: Annotated[str, typer.Option(help="Recipe to rebuild by [the default]")] = "",
    mlflow: Annotated[bool, typer.Option(help="Publish to an MLflow of its own.")] = True,
) -> BenchmarkResult:
    """What evaluating, saving and publishing cost as the ledger grows, and rebuilding it.

    `python -m experiments.benchmarks versions` runs this: only the service has the tasks of jobs.
    """
    from experiments.benchmarks.service_speed import version_costs
    from service.cli.bench.job_runner import JobRunner

    sizes = (2_000, 10_000) if run.quick else (10_000, 100_000, 1_000_000)
    plan = version_costs.VersionsPlan(
        rounds=run.rounds(rounds, 10),
        entries=tuple(entries or sizes),
        lessons=lessons or (3_000 if run.quick else 1_000_000),
        recipe=recipe,
        mlflow=mlflow and not run.quick,
    )
    rows = version_costs.run(run.folder, plan, JobRunner, run.on_progress)
    return BenchmarkResult(rows, version_costs.COLUMNS)
