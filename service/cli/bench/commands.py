"""The benches of speed, scale and learning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from service.cli.bench.options import Found, Rounds, Run, Seconds, Stores, bench, stores

Workers = Annotated[int, typer.Option(help="Processes.", min=1, max=64)]


@bench("score", "durable decisions", "baton bench score --json > score.json")
def score(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    store: Stores = None,
    connections: Annotated[list[int] | None, typer.Option(help="[default: 1, 16, 64]")] = None,
    mlflow: Annotated[bool, typer.Option(help="Compare with `mlflow models serve`.")] = True,
    chantilly: Annotated[bool, typer.Option(help="Compare with chantilly (installs it).")] = True,
) -> Found:
    """Durable decisions per second and their latency, beside an empty route, MLflow, chantilly."""
    from experiments.benchmarks.service_speed import score_throughput as measured

    found = measured.run(
        run.folder,
        run.plan(rounds, seconds, store),
        run.shown,
        connections=tuple(connections or (1, 16, 64)),
        peers=["mlflow"] * mlflow + ["chantilly"] * (chantilly and not run.quick),
    )
    return Found(found.rows, measured.COLUMNS, found.notes)


@bench("model", "the model alone", "baton bench model --data simulated")
def model(
    run: Run,
    rounds: Rounds = None,
    data: Annotated[list[str] | None, typer.Option(help="Data sets [all that are there]")] = None,
    conversations: Annotated[int, typer.Option(help="Of each data set.", min=1)] = 300,
) -> Found:
    """Features, probability and learning of a message, and accuracy, beside VowpalWabbit."""
    from experiments.benchmarks.model_quality import compared_models as measured

    count = min(conversations, 60) if run.quick else conversations
    sets = data or measured.available(measured.DATA)
    rows = measured.run(run.rounds(rounds), count, sets, run.shown)
    return Found(rows, measured.COLUMNS)


@bench("batch", "messages in batches", "baton bench batch --store sqlite")
def batch(run: Run, rounds: Rounds = None, seconds: Seconds = 3.0, store: Stores = None) -> Found:
    """Messages per second through /v1/score/batch at 256, beside one message a request."""
    from experiments.benchmarks.service_speed import batch_throughput as measured

    rows = measured.run(run.folder, run.plan(rounds, seconds, store), run.shown)
    return Found(rows, measured.COLUMNS)


@bench("freshness", "from outcome to score", "baton bench freshness --outcomes 300")
def freshness(
    run: Run,
    outcomes: Annotated[int, typer.Option(help="On each store.", min=1, max=10_000)] = 300,
    connections: Annotated[int, typer.Option(help="Load on each replica.", min=1, max=64)] = 8,
    store: Stores = None,
) -> Found:
    """From an outcome's acknowledgement to a score that reflects it, under load."""
    from experiments.benchmarks.service_speed import freshness as measured

    count = min(outcomes, 40) if run.quick else outcomes
    rows = measured.run(
        run.folder, stores(store), run.shown, outcomes=count, connections=connections
    )
    return Found(rows, measured.COLUMNS)


@bench("console", "open pages and a long queue", "baton bench console --followers 200")
def console(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 4.0,
    followers: Annotated[int, typer.Option(help="Open pages.", min=1, max=1000)] = 200,
    store: Stores = None,
) -> Found:
    """What open pages of the console cost scoring, and how quick long queues and talks are."""
    from experiments.benchmarks.service_speed import console_load as measured

    plan = run.plan(rounds, seconds, store, usual=7)
    rows = measured.run(run.folder, plan, run.shown, followers=followers)
    return Found(rows, measured.COLUMNS)


@bench("recovery", "from kill to ready", "baton bench recovery --entries 10000")
def recovery(
    run: Run,
    rounds: Rounds = None,
    entries: Annotated[list[int] | None, typer.Option(help="Ledger entries")] = None,
    store: Stores = None,
) -> Found:
    """From kill -9 to ready, with ledgers of 10 000, 100 000 and 1 000 000 entries."""
    from experiments.benchmarks.service_speed import recovery as measured

    sizes = (10_000, 100_000) if run.quick else (10_000, 100_000, 1_000_000)
    plan = run.plan(rounds, 3.0, store)
    rows = measured.run(run.folder, plan, run.shown, entries=tuple(entries or sizes))
    return Found(rows, measured.COLUMNS)


@bench("versions", "versions, as the ledger grows", "baton bench versions --entries 100000")
def versions(
    run: Run,
    rounds: Rounds = None,
    entries: Annotated[list[int] | None, typer.Option(help="Ledger entries")] = None,
    lessons: Annotated[int | None, typer.Option(help="Lessons to rebuild [1000000]", min=1)] = None,
    recipe: Annotated[str, typer.Option(help="Recipe to rebuild by [the default]")] = "",
    mlflow: Annotated[bool, typer.Option(help="Publish to an MLflow of its own.")] = True,
) -> Found:
    """What evaluating, saving and publishing cost as the ledger grows, and rebuilding it."""
    from experiments.benchmarks.service_speed import version_costs as measured
    from service.cli.bench.job_runner import JobRunner

    sizes = (2_000, 10_000) if run.quick else (10_000, 100_000, 1_000_000)
    plan = measured.VersionsPlan(
        rounds=run.rounds(rounds, 10),
        entries=tuple(entries or sizes),
        lessons=lessons or (3_000 if run.quick else 1_000_000),
        recipe=recipe,
        mlflow=mlflow and not run.quick,
    )
    return Found(measured.run(run.folder, plan, JobRunner, run.shown), measured.COLUMNS)


@bench("replicas", "replicas on PostgreSQL", "baton bench replicas --replicas 1 --replicas 2")
def replicas(
    run: Run,
    rounds: Rounds = None,
    seconds: Seconds = 3.0,
    count: Annotated[list[int] | None, typer.Option("--replicas", help="[1, 2, 4]")] = None,
) -> Found:
    """Throughput of 1, 2 and 4 processes on PostgreSQL; whether any effect is lost or doubled."""
    from experiments.benchmarks.service_speed import replicas as measured

    counts = tuple(sorted(count or (1, 2, 4)))
    plan = run.plan(rounds, seconds, ["postgresql"])
    rows = measured.run(run.folder, plan, run.shown, replicas=counts)
    return Found(rows, measured.COLUMNS)


@bench("soak", "mixed load", "baton bench soak --minutes 30 --per-second 300")
def soak(
    run: Run,
    minutes: Annotated[float, typer.Option(help="How long.", min=0.05, max=1440)] = 30.0,
    per_second: Annotated[float, typer.Option(help="Decisions asked for.", min=1)] = 300.0,
    store: Annotated[str, typer.Option(help="sqlite or postgresql")] = "sqlite",
) -> Found:
    """Mixed load for half an hour: memory, errors and latency by the minute."""
    from experiments.benchmarks.service_speed import soak as measured

    plan = measured.SoakPlan(
        minutes=min(minutes, 1.0) if run.quick else minutes,
        per_second=per_second,
        store=stores([store])[0],
    )
    found = measured.run(run.folder, plan, run.shown)
    notes = [f"{name}: {value}" for name, value in found.verdict.items()]
    return Found(found.rows, measured.COLUMNS, notes)


@bench("cost", "what one costs", "baton bench cost --store postgresql")
def cost(run: Run, rounds: Rounds = None, seconds: Seconds = 3.0, store: Stores = None) -> Found:
    """What one message and one outcome cost: processor time, storage, a follower's share."""
    from experiments.benchmarks.service_speed import unit_cost as measured

    rows = measured.run(run.folder, run.plan(rounds, seconds, store), run.shown)
    return Found(rows, measured.COLUMNS)


@bench("learning", "learning, and its goals", "baton bench learning --figures figures")
def learning(
    run: Run,
    data: Annotated[Path | None, typer.Option(help="Folder of the data [BATON_DATA]")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Data sets [all]")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write a figure a question there.")] = None,
    seeds: Annotated[int, typer.Option(help="Orders and chances, of all but labels.", min=1)] = 3,
    workers: Workers = 2,
) -> Found:
    """How well Baton learns from late, one-sided labels, beside VowpalWabbit and offline refits."""
    from experiments.benchmarks.model_quality import benchmark as measured
    from experiments.benchmarks.model_quality import target_table as targets
    from experiments.datasets import streams

    folder = str(data or streams.data_folder(os.environ))
    names = measured.choose_data(sets or ())
    short = measured.LearningPlan.quick(folder, names, workers)
    plan = short if run.quick else measured.LearningPlan(folder, names, few=seeds, workers=workers)
    rows = measured.run(plan, run.shown)
    judged = targets.targets(rows)
    if figures is not None:
        from experiments.benchmarks.model_quality import result_pages as pages

        pages.write(figures, rows)
    every = [{"question": "targets", **line} for line in judged] + rows
    return Found(judged, targets.COLUMNS, all=every)


@bench("guarantees", "promised and seen", "baton bench guarantees --streams 1000 --json")
def guarantees(
    run: Run,
    streams: Annotated[int, typer.Option(help="Simulated streams each.", min=1)] = 1000,
    workers: Workers = 2,
) -> Found:
    """What is promised, and what was seen: intervals, promotions, alarms, capacity."""
    from experiments.benchmarks.guarantees import guarantee_table as measured

    rows = measured.run(min(streams, 20) if run.quick else streams, workers, run.shown)
    return Found(rows, measured.COLUMNS)
