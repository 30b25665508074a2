"""Traces arrive where they are sent, as parts of the caller's, and name nobody."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.service_in_process import QUIET, serving

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP collector: its address, and the spans that it was sent."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sent = ExportTraceServiceRequest.FromString(body)
            for resource in sent.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes}


def test_a_traced_callers_request_has_its_wait_and_its_transaction_within_the_callers_trace(
    tmp_path: Path,
) -> None:
    with (
        collector() as (url, spans),
        serving(tmp_path, traces_url=url, traces_share=1e-9) as service,
    ):
        bot = service.default().bot
        bot.decided("untraced", "m1", QUIET)
        bot.headers["traceparent"] = f"00-{TRACE}-{CALLER}-01"
        bot.decided("private-name", "m1", f"private words: {QUIET}")
        bot.get("/v1/handoffs/private-handoff")
    by_name = {span.name: span for span in spans}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    request = by_name["POST /v1/score"]
    assert request.parent_span_id.hex() == CALLER
    assert attributes(request)["http.response.status_code"] == "200"
    for name in ("baton.queue", "baton.transaction"):
        part = by_name[name]
        assert part.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= part.start_time_unix_nano
        assert part.start_time_unix_nano <= part.end_time_unix_nano
        assert part.end_time_unix_nano <= request.end_time_unix_nano
    assert "GET /v1/handoffs/{handoff_id}" in by_name
    assert "private" not in str(spans)


def test_a_share_of_one_traces_every_request(tmp_path: Path) -> None:
    with (
        collector() as (url, spans),
        serving(tmp_path, traces_url=url, traces_share=1.0) as service,
    ):
        for number in range(5):
            service.default().bot.decided(f"c{number}", "m1", QUIET)
    assert len([span for span in spans if span.name == "POST /v1/score"]) == 5
