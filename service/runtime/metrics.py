"""Prometheus metrics of a process; workers that share a port are counted together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The Prometheus client's own variable: the folder where workers of one port keep their counts."""

CONTENT_TYPE = "text/plain; version=0.0.4"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_LEARNED_SECONDS = (0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[tuple[int | str, ...], Counter] = {}
        self._routes: dict[tuple[str, str], Histogram] = {}
        ProcessCollector(registry=self._registry)
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
        self._measure_requests()
        self._measure_waiting()

    def _measure_requests(self) -> None:
        """Rate, errors and duration of the requests (RED)."""
        self._request_seconds = Histogram(
            "baton_request_seconds",
            "Time to the end of a response, by route; event streams aside.",
            ("method", "route"),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._request_errors = Counter(
            "baton_request_errors_total",
            "Responses of status 400 and above, by route.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._database_errors = Counter(
            "baton_database_errors_total",
            "Statements that the database did not carry out, by the driver's error.",
            ("error",),
            registry=self._registry,
        )

        self._sign_in_failures = Counter(
            "baton_sign_in_failures_total",
            "Sign-ins to the console that were refused, by key or by OpenID Connect, and why.",
            ("way", "why"),
            registry=self._registry,
        )

    def _measure_waiting(self) -> None:
        """What waits: in the queue, for learning, and on event streams."""
        self._queue = Gauge(
            "baton_queue_requests",
            "Requests that wait for their batch.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._queue_seconds = Histogram(
            "baton_queue_seconds",
            "How long a request waited for its batch.",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._learned_seconds = Histogram(
            "baton_learned_seconds",
            "Time from an outcome's commit until this process has learned it.",
            registry=self._registry,
            buckets=_LEARNED_SECONDS,
        )
        self._subscribers = Gauge(
            "baton_event_subscribers",
            "Connections that follow events.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

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

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request that was answered: its duration, and its status where it is an error."""
        histogram = self._routes.get((method, route))
        if histogram is None:
            histogram = self._routes[method, route] = self._request_seconds.labels(method, route)
        histogram.observe(seconds)
        if status >= 400:
            self._child(self._request_errors, method, route, str(status)).inc()

    def count_sign_in_failure(self, way: str, why: str) -> None:
        self._sign_in_failures.labels(way, why).inc()

    def count_database_error(self, error: str) -> None:
        self._database_errors.labels(error).inc()

    def observe_queue(self, waits: list[float], left: int) -> None:
        """A batch was taken: how long each of its requests had waited, and how many still wait."""
        for seconds in waits:
            self._queue_seconds.observe(seconds)
        self._queue.set(left)

    def observe_learned(self, seconds: float) -> None:
        self._learned_seconds.observe(max(0.0, seconds))

    def set_subscribers(self, count: int) -> None:
        self._subscribers.set(count)

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
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        if folder is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(WorkerCollector(Path(folder)))
        return generate_latest(registry)


class WorkerCollector(Collector):
    """Memory and file descriptors of all live workers of a port together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        memory = files = 0
        for pid in {path.stem.rpartition("_")[2] for path in self._folder.glob("*.db")}:
            try:
                pages = (Path("/proc") / pid / "statm").read_text().split()[1]
                opened = sum(1 for _ in (Path("/proc") / pid / "fd").iterdir())
            except OSError:
                continue
            memory += int(pages) * os.sysconf("SC_PAGE_SIZE")
            files += opened
        sentence = "Resident memory size in bytes, of all workers."
        yield GaugeMetricFamily("process_resident_memory_bytes", sentence, memory)
        yield GaugeMetricFamily("process_open_fds", "Open file descriptors, of all workers.", files)


def forget_worker(pid: int, folder: str) -> None:
    """Remove an ended worker's gauges from the shared metrics; its counters stay."""
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
