"""Distributed tracing (OpenTelemetry, an optional extra): a span of each sampled request, and
within it the wait for its batch and the batch's transaction.

The caller's `traceparent` is followed, so that a bot's trace shows the decision within it. Without
BATON_TRACES_URL nothing of this is loaded or done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.runtime.settings import SettingError, Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_NS = 1_000_000_000


class Tracing:
    """The tracer of a process, exporting over OTLP (HTTP) in the background."""

    def __init__(self, settings: Settings, process: str) -> None:
        """Raises SettingError where the extra is not installed."""
        self._provider = _provider(settings, process)
        self._tracer = self._provider.get_tracer("baton")

    @contextmanager
    def request(self, method: str, headers: Mapping[bytes, bytes]) -> Iterator[dict[str, Any]]:
        """A span of a request; what is put into the dictionary becomes its attributes, `route` its
        name.
        """
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(
            method, parent, SpanKind.SERVER, record_exception=False
        ) as span:
            attributes: dict[str, Any] = {}
            try:
                yield attributes
            finally:
                span.update_name(f"{method} {attributes.get('route', 'none')}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", attributes.get("route", "none"))
                span.set_attribute("http.response.status_code", attributes.get("status", 0))
                if attributes.get("status", 0) >= 500:
                    span.set_status(StatusCode.ERROR)

    def batch(self, workspace: str, queued_at: float, taken_at: float) -> None:
        """Spans of a request's batch that has just ended: its wait and its transaction, from times
        of the monotonic clock.
        """
        from opentelemetry import trace

        if not trace.get_current_span().is_recording():
            return
        now, clock = time.time_ns(), time.monotonic()
        queued, taken = (now - int((clock - at) * _NS) for at in (queued_at, taken_at))
        for name, start, end in (("baton.queue", queued, taken), ("baton.transaction", taken, now)):
            span = self._tracer.start_span(name, start_time=start)
            span.set_attribute("baton.workspace", workspace)
            span.end(end)

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _provider(settings: Settings, process: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise SettingError(
            "BATON_TRACES_URL is set and OpenTelemetry is not installed: "
            "`pip install 'baton[tracing]'`, or unset it"
        ) from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.traces_share)),
        resource=Resource({"service.name": f"baton-{process}"}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.traces_url.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def tracing_of(settings: Settings, process: str) -> Tracing | None:
    """The tracing that the settings ask for; None, and nothing loaded, where they do not."""
    return Tracing(settings, process) if settings.traces_url else None
