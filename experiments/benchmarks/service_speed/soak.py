"""Soak test: half an hour of mixed load; memory, errors and latency by the minute.

Expected: memory flat once the caches are full, no error, latency of the last minutes as of the
first.

`serve` and `jobs` run as `baton up` runs them (MLflow away: nothing may depend on it). Bots score
at a steady rate in the live workspace `default` and close what they kept; an agent claims handoffs,
judges them, gives some back and closes others, and reviews the audits that were drawn; an engineer
looks at quality, standing and versions. One row a minute.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmarks.harness import processes
from experiments.benchmarks.harness.compared_systems import sqlite_bytes
from experiments.benchmarks.harness.load_generator import Figures, Load, Order
from experiments.benchmarks.harness.processes import ServerProcess, postgres
from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.replay.client import BatonClient, RefusedError, UnreachableError, path_of

DRIFT = 1.5
"""The last third's latency may be so many times the second third's and still be called steady: the
median of its minutes' medians, and that of their 99th percentiles."""

GROWTH_MIB = 1.0
"""Memory may grow so much a minute over the last half and still be called flat: 1.4 GiB a day,
which a leak of one request in a hundred would exceed."""

COLUMNS = {
    "minute": "minute",
    "per_second": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "faults": "errors",
    "judged": "outcomes",
    "position": "position",
    "serve_mib": "serve MiB",
    "jobs_mib": "jobs MiB",
    "store_mib": "store MiB",
}


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """How much to measure. `per_second` is the rate of the bots' requests asked for.

    At 300 the process has heard of the 20 000 conversations that it remembers at most after some
    eleven minutes: from there on memory must be flat.
    """

    minutes: float = 30.0
    per_second: float = 300.0
    connections: int = 8
    store: str = "sqlite"

    @property
    def slices(self) -> int:
        return max(3, round(self.minutes))

    @property
    def slice_seconds(self) -> float:
        return self.minutes * 60 / self.slices


@dataclass(slots=True)
class SoakResult:
    """Rows by the minute, and what they come to."""

    rows: list[Row] = field(default_factory=list)
    verdict: Row = field(default_factory=dict)


class SimulatedStaff(threading.Thread):
    """Thread of an agent and an engineer at work, until `stop`."""

    def __init__(self, url: str, agent: str, engineer: str) -> None:
        super().__init__(daemon=True)
        self._url, self._agent, self._engineer = url, agent, engineer
        self._end = threading.Event()
        self.done: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.position = 0

    def run(self) -> None:
        with (
            BatonClient(self._url, self._agent) as agent,
            BatonClient(self._url, self._engineer) as engineer,
        ):
            turn = 0
            while not self._end.wait(0.1):
                turn += 1
                self._try(lambda: self._judge(agent))
                if turn % 10 == 0:
                    self._try(lambda: self._review(agent))
                if turn % 50 == 0:
                    self._try(lambda: self._look(engineer))

    def stop(self) -> None:
        self._end.set()
        self.join(30)

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except RefusedError as error:
            self.faults[f"{error.status} {error.code}"] += 1
        except UnreachableError:
            self.faults["unreachable"] += 1

    def _judge(self, agent: BatonClient) -> None:
        waiting = agent.get("/v1/handoffs?status=waiting")["handoffs"][:5]
        for handoff in waiting:
            number = self.done["judged"]
            name = handoff["id"]
            agent.post(path_of("handoffs", name, "claim"), {})
            agent.get(path_of("handoffs", name))
            end = "return" if number % 4 == 0 else "resolve"
            agent.post(path_of("handoffs", name, end), {})
            verdict = "needed" if number % 3 else "not_needed"
            agent.post(path_of("handoffs", name, "outcome"), {"verdict": verdict})
            conversation = handoff["conversation_id"]
            agent.get(path_of("conversations", conversation))
            if end == "resolve":
                close = {"resolution": "resolved"}
                agent.post(path_of("conversations", conversation, "close"), close)
            self.done["judged"] += 1

    def _review(self, agent: BatonClient) -> None:
        audit = agent.get("/v1/audits/next")["audit"]
        if audit is not None:
            agent.post(path_of("audits", audit["id"], "outcome"), {"verdict": "fine"})
            self.done["reviewed"] += 1

    def _look(self, engineer: BatonClient) -> None:
        self.position = int(engineer.get("/v1/standing")["position"])
        engineer.get("/v1/quality")
        engineer.get("/v1/versions")
        self.done["looked"] += 1


def run(folder: Path, plan: SoakPlan, progress: Progress) -> SoakResult:
    """Measure; `folder` is empty and takes all files. Ends with what is found so far on Ctrl-C."""
    result = SoakResult()
    home = folder / "home"
    home.mkdir(parents=True)
    with ExitStack() as stack:
        database = "" if plan.store == "sqlite" else stack.enter_context(postgres(folder)).uri
        serve = stack.enter_context(processes.running(processes.baton(home, database=database)))
        jobs = stack.enter_context(processes.running(processes.jobs(serve)))
        keys = {role: processes.key(home, role) for role in ("bot", "agent", "engineer")}
        load = stack.enter_context(Load())
        people = SimulatedStaff(serve.url, keys["agent"], keys["engineer"])
        people.start()
        stack.callback(people.stop)
        began = time.monotonic()
        for number in range(plan.slices):
            progress("running", number, plan.slices)
            settings = {"key": keys["bot"], "name": f"s{number}"}
            seconds = plan.slice_seconds
            figures = load.play(
                Order(serve.port, "ended", settings, plan.connections, seconds, plan.per_second)
            )
            minute = round((time.monotonic() - began) / 60, 2)
            result.rows.append(_row(minute, figures, people, serve, jobs))
    result.verdict = verdict(result.rows)
    return result


def _row(
    minute: float,
    figures: Figures,
    people: SimulatedStaff,
    serve: ServerProcess,
    jobs: ServerProcess,
) -> Row:
    if jobs.process.poll() is not None:
        people.faults["jobs ended"] += 1
    faults: dict[str, Any] = dict(people.faults) | dict(figures.faults)
    row = {
        "minute": minute,
        "per_second": rounded(figures.per_second),
        "p50_ms": rounded(figures.p50_ms),
        "p99_ms": rounded(figures.p99_ms),
        "faults": sum(faults.values()),
        "what_faults": faults,
        "judged": people.done["judged"],
        "position": people.position,
        "serve_mib": round(serve.memory_mib(), 1),
        "jobs_mib": round(jobs.memory_mib(), 1),
        "store_mib": round(sqlite_bytes(serve.folder) / 2**20, 1),
        "load_average": load_average(),
    }
    people.faults.clear()
    return row


def verdict(rows: list[Row]) -> Row:
    """Flat, faultless, steady: each as its figure and whether it was so."""
    half, third = rows[len(rows) // 2 :], len(rows) // 3
    minutes = half[-1]["minute"] - half[0]["minute"] or 1.0
    figures: Row = {"faults": sum(row["faults"] for row in rows)}
    for name in ("serve_mib", "jobs_mib"):
        figures[f"{name}_per_minute"] = rounded((half[-1][name] - half[0][name]) / minutes)
    for name, figure in (("latency_drift", "p50_ms"), ("tail_drift", "p99_ms")):
        first = median(row[figure] for row in rows[third : 2 * third])
        last = median(row[figure] for row in rows[2 * third :])
        figures[name] = rounded(last / first)
    figures["reached"] = (
        figures["faults"] == 0
        and figures["serve_mib_per_minute"] <= GROWTH_MIB
        and figures["jobs_mib_per_minute"] <= GROWTH_MIB
        and figures["latency_drift"] <= DRIFT
        and figures["tail_drift"] <= DRIFT
    )
    return figures
