"""What a process counts about itself, for Prometheus; workers that share a port count together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The client library's own variable: the folder where workers of one port keep their counts."""

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[tuple[int | str, ...], Counter] = {}
        self._decisions = Counter(
            "baton_decisions_total",
            "Decisions answered, repeated ones too.",
            ("workspace", "action"),
            registry=self._registry,
        )
        self._entries = Counter(
            "baton_ledger_entries_followed_total",
            "Ledger entries followed since this process started.",
            ("workspace",),
            registry=self._registry,
        )
        self._refused = Counter(
            "baton_refused_total", "Requests refused: the queue was full.", registry=self._registry
        )
        self._diverged = Counter(
            "baton_diverged_total",
            "Times this process held another model than a checkpoint, and stood anew.",
            ("workspace",),
            registry=self._registry,
        )
        self._responses = Counter(
            "baton_responses_total", "Responses by status.", ("status",), registry=self._registry
        )
        self._seconds = Histogram(
            "baton_batch_seconds",
            "Time of a batch's transaction.",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._sizes = Histogram(
            "baton_batch_requests",
            "Requests in a batch.",
            registry=self._registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self._lag = Gauge(
            "baton_ledger_lag_entries",
            "Ledger entries not yet learned.",
            ("workspace",),
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def decided(self, workspace: str, action: str) -> None:
        self._of(self._decisions, workspace, action).inc()

    def _of(self, counter: Counter, *labels: str) -> Counter:
        """A labelled child, looked up once: the client locks and validates at each look."""
        key: tuple[int | str, ...] = (id(counter), *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = counter.labels(*labels)
        return found

    def learned(self, workspace: str, entries: int) -> None:
        self._entries.labels(workspace).inc(entries)

    def diverged(self, workspace: str) -> None:
        self._diverged.labels(workspace).inc()

    def refused(self) -> None:
        self._refused.inc()

    def responded(self, status: int) -> None:
        self._of(self._responses, str(status)).inc()

    @contextmanager
    def batch(self, requests: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds.observe(time.perf_counter() - start)
        self._sizes.observe(requests)

    def lags(self, lag: dict[str, int]) -> None:
        """Entries that each served workspace has yet to learn."""
        for workspace, entries in lag.items():
            self._lag.labels(workspace).set(entries)

    def text(self) -> bytes:
        """All measures in Prometheus' text format; of every worker, where several share a port."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_worker(pid: int, folder: str) -> None:
    """Take an ended worker's momentary values out of what all tell; its counts stay."""
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
