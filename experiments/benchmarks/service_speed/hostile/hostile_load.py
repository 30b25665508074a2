"""Noisy-neighbour test: latency of normal load alone, then beside attackers, by the minute.

Expected: the 99th percentile at most 3 times its quiet value, nothing acknowledged lost, no 5xx but
503 to anybody, less than 1 GiB of memory.

`serve` and `jobs` run as `baton up` runs them (MLflow away). A bot of the workspace `default`
scores at a steady rate, an agent judges what it hands over. First they are alone. Then another
workspace's bot floods, sends what is too large, forges outcomes; others have wrong keys, or are
slow. The bot writes down every decision that it was answered; afterwards each is looked for in the
store.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.load_generator import Figures, Load, Order
from experiments.benchmarks.harness.processes import ServerProcess, postgres
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.benchmarks.service_speed.hostile.attack_process import (
    Attackers,
    AttackPlan,
    AttackReport,
)
from experiments.benchmarks.service_speed.replicas import compare_decisions
from experiments.benchmarks.service_speed.soak import SimulatedStaff
from experiments.replay.client import BatonClient

RATIO_MAX = 3.0
"""The median of the hostile minutes' 99th percentiles over the quiet one."""

MEMORY_MIB_MAX = 1024.0

QUIET_SECONDS_MAX, WARM_UP_SECONDS_MAX = 60.0, 15.0
"""Before the quiet phase normal load warms up: `jobs` takes a core for some seconds to start, and a
quiet phase that is not quiet would forgive too much.
"""

WARM_UP = "warm"

ANSWERS = ("2xx", "4xx", "429", "503", "5xx", "closed", "unanswered")
"""What attackers may have for an answer; 4xx without 429, 5xx without 503."""

SELECT_DECISIONS = (
    "SELECT conversation_id, message_id, id FROM decision WHERE workspace = 'default'"
)

COLUMNS = {
    "minute": "minute",
    "phase": "phase",
    "per_second": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "faults": "errors",
    "acknowledged": "decisions",
    "lost": "lost",
    **{name: f"attackers {name}" for name in ANSWERS},
    "wrong": "wrong answers",
    "serve_mib": "serve MiB",
    "load_average": "load",
}


@dataclass(frozen=True, slots=True)
class HostilePlan:
    """How much to measure. `per_second` is the rate of the normal bot's requests asked for.

    It has so many connections that a server that stalls for .3 s holds up none that is due: a
    request that is not sent would not be seen to be late.
    """

    minutes: float = 30.0
    per_second: float = 100.0
    flood_per_second: float = 300.0
    giants_per_second: float = 3.0
    connections: int = 32
    store: str = "sqlite"

    @property
    def quiet_seconds(self) -> float:
        return min(QUIET_SECONDS_MAX, self.minutes * 6)

    @property
    def slices(self) -> int:
        """How many rows of the hostile phase."""
        return max(2, round((self.minutes * 60 - self.quiet_seconds) / 60))

    @property
    def slice_seconds(self) -> float:
        return (self.minutes * 60 - self.quiet_seconds) / self.slices


@dataclass(slots=True)
class HostileResult:
    """Rows by the minute, and what they come to."""

    rows: list[Row] = field(default_factory=list)
    verdict: Row = field(default_factory=dict)


@dataclass(slots=True)
class _Bench:
    """What is under way: server, jobs, normal load, where it writes, and the staff."""

    plan: HostilePlan
    serve: ServerProcess
    jobs: ServerProcess
    load: Load
    staff: SimulatedStaff
    bot: str
    decisions: Path

    def play(self, name: str, seconds: float) -> Figures:
        """Normal load for some time; its decisions are written to files of that name."""
        settings = {"key": self.bot, "name": name, "file": str(self.decisions / name)}
        plan = self.plan
        order = Order(
            self.serve.port, "ended", settings, plan.connections, seconds, plan.per_second
        )
        return self.load.play(order)

    def row(
        self, name: str, minute: float, figures: Figures, report: AttackReport | None = None
    ) -> Row:
        if self.jobs.process.poll() is not None:
            self.staff.faults["jobs ended"] += 1
        faults = Counter(self.staff.faults) + Counter(figures.faults)
        self.staff.faults.clear()
        answers = report.answers if report is not None else {}
        return {
            "minute": round(minute, 2),
            "phase": "quiet" if report is None else "hostile",
            "slice": name,
            "per_second": rounded(figures.per_second),
            "p50_ms": rounded(figures.p50_ms),
            "p99_ms": rounded(figures.p99_ms),
            "max_ms": rounded(figures.max_ms),
            "faults": sum(faults.values()),
            "what_faults": dict(faults),
            **{kind: answers.get(kind, 0) for kind in ANSWERS},
            "wrong": sum(report.wrong.values()) if report is not None else 0,
            "what_wrong": report.wrong if report is not None else {},
            "by_attack": report.by_attack if report is not None else {},
            "attackers_cpu_s": report.cpu_seconds if report is not None else 0.0,
            "serve_mib": round(self.serve.memory_mib(), 1),
            "load_average": load_average(),
        }


def run(folder: Path, plan: HostilePlan, progress: Progress) -> HostileResult:
    """Measure; `folder` is empty and takes all files."""
    home, decisions = folder / "home", folder / "decisions"
    for path in (home, decisions):
        path.mkdir(parents=True)
    with ExitStack() as stack:
        database = "" if plan.store == "sqlite" else stack.enter_context(postgres(folder)).uri
        rows = _measure(home, database, decisions, plan, progress)
        stored = _stored_decisions(home, database)
    rows = [row | _compare(decisions, row["slice"], stored) for row in rows]
    return HostileResult(rows, verdict(rows, _compare(decisions, WARM_UP, stored)))


def _measure(
    home: Path, database: str, decisions: Path, plan: HostilePlan, progress: Progress
) -> list[Row]:
    """The quiet phase, then the hostile one; the processes have ended when this returns."""
    with ExitStack() as stack:
        serve = stack.enter_context(processes.running(processes.baton(home, database=database)))
        jobs = stack.enter_context(processes.running(processes.jobs(serve)))
        keys = {role: processes.key(home, role) for role in ("bot", "agent", "engineer", "admin")}
        staff = SimulatedStaff(serve.url, keys["agent"], keys["engineer"])
        load = stack.enter_context(Load())
        staff.start()
        stack.callback(staff.stop)
        bench = _Bench(plan, serve, jobs, load, staff, keys["bot"], decisions)
        progress("quiet", 0, plan.slices + 1)
        bench.play(WARM_UP, min(WARM_UP_SECONDS_MAX, plan.quiet_seconds))
        staff.faults.clear()
        minute = plan.quiet_seconds / 60
        rows = [bench.row("quiet", minute, bench.play("quiet", plan.quiet_seconds))]
        key = _attacker_key(serve.url, keys["admin"])
        rates = plan.flood_per_second, plan.giants_per_second
        attack = AttackPlan(serve.port, key, "quiet-0-1", *rates)
        attackers = stack.enter_context(Attackers(attack))
        for number in range(plan.slices):
            progress("hostile", number + 1, plan.slices + 1)
            figures = bench.play(f"hostile{number}", plan.slice_seconds)
            minute += plan.slice_seconds / 60
            rows.append(bench.row(f"hostile{number}", minute, figures, attackers.report()))
        return rows


def _attacker_key(url: str, admin_key: str) -> str:
    """A bot's key of a live workspace of the attackers' own."""
    with BatonClient(url, admin_key) as client:
        answer = client.post("/v1/workspaces", {"id": "hostile", "mode": "live"})
    return str(answer["keys"]["bot"])


def _stored_decisions(home: Path, database: str) -> list[tuple[str, ...]]:
    """Conversation, message and id of every decision of the normal bot in the store."""
    if database:
        with psycopg.connect(database) as connection:
            return connection.execute(SELECT_DECISIONS).fetchall()
    with closing(sqlite3.connect(home / "baton.sqlite3")) as sqlite:
        return sqlite.execute(SELECT_DECISIONS).fetchall()


def _compare(decisions: Path, name: str, stored: Iterable[tuple[str, ...]]) -> Row:
    """The decisions acknowledged in a slice beside those that are stored."""
    acknowledged: dict[tuple[str, str], set[str]] = {}
    for path in decisions.glob(f"{name}.*"):
        for line in path.read_text().splitlines():
            conversation, message, decision = line.split()
            acknowledged.setdefault((conversation, message), set()).add(decision)
    of_slice = [row for row in stored if row[0].startswith(f"{name}-")]
    return compare_decisions(acknowledged, of_slice)


def verdict(rows: Sequence[Row], warm_up: Row) -> Row:
    """Latency's ratio, losses, wrong answers and memory, and whether each was as it must be.

    An error of the normal load counts as missed: a request that was refused is in no percentile.
    """
    hostile = [row for row in rows if row["phase"] == "hostile"]
    quiet_p99 = median(row["p99_ms"] for row in rows if row["phase"] == "quiet")
    hostile_p99 = median(row["p99_ms"] for row in hostile)
    figures: Row = {
        "quiet_p99_ms": quiet_p99,
        "hostile_p99_ms": hostile_p99,
        "p99_ratio": rounded(hostile_p99 / quiet_p99) if quiet_p99 else None,
        "faults": sum(row["faults"] for row in rows),
        **{
            name: sum(row[name] for row in (*rows, warm_up))
            for name in ("acknowledged", "lost", "doubled", "differing")
        },
        **{name: sum(row[name] for row in rows) for name in ("5xx", "unanswered", "wrong")},
        "serve_mib_max": max(row["serve_mib"] for row in rows),
    }
    bad = ("faults", "lost", "doubled", "differing", "5xx", "unanswered", "wrong")
    figures["reached"] = (
        figures["p99_ratio"] is not None
        and figures["p99_ratio"] <= RATIO_MAX
        and figures["acknowledged"] > 0
        and not any(figures[name] for name in bad)
        and figures["serve_mib_max"] < MEMORY_MIB_MAX
    )
    return figures
