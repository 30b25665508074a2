"""Study 1, coverage: do the reported intervals of the missed rate hold the truth at every look?

    python -m experiments.studies.001_missed_rate_intervals [RUNS]

100 simulated customer services, each in a workspace of its own of one Baton (API and jobs as
processes, all through HTTP): 600 conversations, three in ten of the kept ones drawn for an audit,
three in ten of the missed ones complained of, verdicts, reviews and complaints late, the model
learning all the while, and a look after every 30 conversations. True is the share of the
kept conversations closed so far that needed a person.

Expected: every look holds the truth in at least 92 of 100 runs, and the final interval is at most
1.6 times as wide as an exact one for one look (Clopper and Pearson) at as many audits.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

from experiments.benchmarks.harness.processes import ServerProcess, baton, jobs, key, running
from experiments.replay.client import BatonClient
from experiments.studies.simulated_rates import Look, ServicePlan, ServiceRun

AT_ONCE = 6
SETTLED_SECONDS = 5.0
"""After this time jobs have drawn the audits of what closed before."""


def one(service: ServerProcess, plan: ServicePlan) -> list[Look]:
    """One run in a fresh workspace; the clock draws in its own time, except at the very end."""
    with ExitStack() as open_:
        admin = open_.enter_context(BatonClient(service.url, key(service.folder, "admin")))
        keys = admin.post("/v1/workspaces", {"id": f"honest-{plan.seed}", "mode": "live"})["keys"]
        clients = {
            role: open_.enter_context(BatonClient(service.url, role_key))
            for role, role_key in keys.items()
        }
        run = ServiceRun(plan, clients, lambda: None)
        run.play()
        time.sleep(SETTLED_SECONDS)
        run.finish()
        return run.looks


def main(runs: int) -> None:
    looks_by_run: list[list[Look]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(baton(Path(folder))) as service,
        running(jobs(service)),
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        waiting = [pool.submit(one, service, ServicePlan(seed)) for seed in range(runs)]
        for number, done in enumerate(as_completed(waiting), 1):
            looks_by_run.append(done.result())
            covered = sum(all(look.covered for look in looks) for looks in looks_by_run)
            print(f"{number} of {runs} runs, {covered} held at every look", file=sys.stderr)
    last = [looks[-1] for looks in looks_by_run]
    report = {
        "runs": runs,
        "held_at_every_look": sum(all(look.covered for look in looks) for looks in looks_by_run),
        "held_at_the_last_look": sum(look.covered for look in last),
        "looks": sum(map(len, looks_by_run)),
        "looks_held": sum(look.covered for looks in looks_by_run for look in looks),
        "width_over_exact": _three([look.width_ratio for look in last]),
        "true_rate": _three([look.truth for look in last]),
        "reported_rate": _three([look.reported["rate"] for look in last]),
        "kept": _three([look.kept for look in last]),
        "audits_answered": _three([look.reported["audits_answered"] for look in last]),
        "caught": _three([look.reported["caught"] for look in last]),
    }
    print(json.dumps(report, indent=2))


def _three(values: list[float]) -> dict[str, float]:
    """Least, median and greatest."""
    spread = {"least": min(values), "median": statistics.median(values), "greatest": max(values)}
    return {name: round(value, 4) for name, value in spread.items()}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
