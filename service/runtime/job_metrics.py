"""Prometheus metrics of the `jobs` process: its scheduled passes, its lease, and the state of the
installation.

The state of the installation is told by the process that holds the lease alone, so that of two
`jobs` processes no figure is counted twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_PASS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800)

_INSTALLATION = {
    "handoffs_waiting": ("Handoffs that wait for an agent.", ("team",)),
    "handoffs_claimed": ("Handoffs that an agent has.", ("team",)),
    "handoff_oldest_timestamp_seconds": ("When the oldest waiting handoff was opened.", ("team",)),
    "audits_open": ("Audits that wait for a review.", ()),
    "serving_version": ("The version that serves.", ()),
    "serving_since_timestamp_seconds": ("When the version began to serve.", ()),
    "newest_checkpoint_timestamp_seconds": ("When the newest version was saved.", ()),
    "calibration_error": ("Expected calibration error of the newest lessons.", ()),
    "log_loss": ("Log loss of the newest lessons, in nats.", ()),
    "drift_alarm_timestamp_seconds": ("When drift was last alarmed; 0 for never.", ()),
    "evaluation_timestamp_seconds": ("When the last evaluation was made.", ()),
    "publishing_owed": ("Versions and evaluations that MLflow has yet to get.", ()),
}
"""Figures of each workspace: the sentence, and the labels beside `workspace`."""


class JobMetrics:
    """The metrics of one `jobs` process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._is_leader = False
        self.terms = 0
        """How often this process has lost the lease: what was told before is told anew."""
        ProcessCollector(registry=self._registry)
        self._runs = Counter(
            "baton_job_runs_total",
            "Passes of a scheduled job, by result: ok, put_off (the database was away) or broke.",
            ("task", "result"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "baton_job_seconds",
            "Duration of a pass.",
            ("task",),
            registry=self._registry,
            buckets=_PASS_SECONDS,
        )
        self._last = Gauge(
            "baton_job_last_success_timestamp_seconds",
            "When a pass of a job last ended well.",
            ("task",),
            registry=self._registry,
        )
        self._began = Gauge(
            "baton_job_running_since_timestamp_seconds",
            "When the pass that runs now began; 0 while none does.",
            ("task",),
            registry=self._registry,
        )
        self._measure_process()
        self._figures = {
            name: Gauge(f"baton_{name}", sentence, ("workspace", *labels), registry=self._registry)
            for name, (sentence, labels) in _INSTALLATION.items()
        }

    def _measure_process(self) -> None:
        self._leader = Gauge(
            "baton_jobs_leader",
            "1 while this process holds the lease, and acts.",
            registry=self._registry,
        )
        self._mlflow = Gauge(
            "baton_mlflow_up",
            "1 while MLflow answers this process.",
            registry=self._registry,
        )
        self._database_errors = Counter(
            "baton_database_errors_total",
            "Statements that the database did not carry out, by the driver's error.",
            ("error",),
            registry=self._registry,
        )
        self._outcomes = Counter(
            "baton_outcomes_total",
            "Outcomes (labels) that came into the ledger while this process held the lease.",
            ("workspace", "source", "verdict"),
            registry=self._registry,
        )
        self._disk = Gauge(
            "baton_disk_free_bytes",
            "Free bytes of the disk that holds the SQLite database.",
            registry=self._registry,
        )

    @contextmanager
    def job_pass(self, job: str) -> Iterator[None]:
        """Measure one pass; one that raises is counted by who catches it."""
        began = time.perf_counter()
        self._began.labels(job).set_to_current_time()
        try:
            yield
            self._last.labels(job).set_to_current_time()
            self.count_pass(job, "ok")
        finally:
            self._began.labels(job).set(0)
            self._seconds.labels(job).observe(time.perf_counter() - began)

    def count_pass(self, job: str, result: str) -> None:
        self._runs.labels(job, result).inc()

    def set_leader(self, is_leader: bool) -> None:
        self._leader.set(is_leader)
        if not is_leader and self._is_leader:
            self.terms += 1
            self.clear(*self._figures)
        self._is_leader = is_leader

    def set_mlflow(self, is_up: bool) -> None:
        self._mlflow.set(is_up)

    def set_disk_free(self, free: int) -> None:
        self._disk.set(free)

    def count_database_error(self, error: str) -> None:
        self._database_errors.labels(error).inc()

    def count_outcome(self, workspace: str, source: str, verdict: str) -> None:
        self._outcomes.labels(workspace, source, verdict).inc()

    def set_figure(self, name: str, value: float, *labels: str) -> None:
        """Set a figure of the installation; the first label is the workspace."""
        self._figures[name].labels(*labels).set(value)

    def clear(self, *names: str) -> None:
        """Forget figures whose labels may have gone: a team without a queue has no line."""
        for name in names:
            self._figures[name].clear()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
