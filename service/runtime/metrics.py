"""Prometheus metrics of a process; workers that share a port are counted together."""

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
"""The Prometheus client's own variable: the folder where workers of one port keep their counts."""

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
            "Times this process held another model than a checkpoint, and reloaded it.",
            ("workspace",),
            registry=self._registry,
        )
        self._broken = self._gauge(
            "baton_workspace_broken",
            "1 while this process cannot stand in a workspace, and does not serve it.",
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
        self._lag = self._gauge("baton_ledger_lag_entries", "Ledger entries not yet learned.")

    def _gauge(self, name: str, sentence: str) -> Gauge:
        """A figure of each workspace; of several workers the greatest is told."""
        return Gauge(
            name,
            sentence,
            ("workspace",),
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def count_decision(self, workspace: str, action: str) -> None:
        self._child(self._decisions, workspace, action).inc()

    def _child(self, counter: Counter, *labels: str) -> Counter:
        """A labelled child, cached: the client locks and validates at each look-up."""
        key: tuple[int | str, ...] = (id(counter), *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = counter.labels(*labels)
        return child

    def count_learned(self, workspace: str, entries: int) -> None:
        self._entries.labels(workspace).inc(entries)

    def count_divergence(self, workspace: str) -> None:
        self._diverged.labels(workspace).inc()

    def set_broken(self, workspace: str, broken: int) -> None:
        self._broken.labels(workspace).set(broken)

    def count_refusal(self) -> None:
        self._refused.inc()

    def count_response(self, status: int) -> None:
        self._child(self._responses, str(status)).inc()

    @contextmanager
    def batch(self, requests: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds.observe(time.perf_counter() - start)
        self._sizes.observe(requests)

    def set_lags(self, lag: dict[str, int]) -> None:
        """Set the ledger lag: the entries that each served workspace has yet to learn."""
        for workspace, entries in lag.items():
            self._lag.labels(workspace).set(entries)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format; of every worker, where several share a port."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_worker(pid: int, folder: str) -> None:
    """Remove an ended worker's gauges from the shared metrics; its counters stay."""
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
