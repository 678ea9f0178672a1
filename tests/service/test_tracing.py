"""Traces: on by the standard variables, a span for each step, in the trace of the caller; else nothing."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.tracing import Tracing, TracingError, is_wanted, provider
from tests.service.fakes import make_app, photo, post, serving
from tests.service.test_process import slow_service

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def _no_traces_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "faces"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_switch_it_on(environment: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environment) is wanted


def test_nothing_is_imported_while_it_is_off() -> None:
    code = (
        "import sys; from service import __main__; from tests.service.fakes import make_app; make_app(); "
        "print([n for n in sys.modules if n.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    root = Path(__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert child.stdout == "[]\n", child.stderr


@contextmanager
def traced_app() -> Iterator[tuple[Any, Any]]:
    """An app with traces on, and what has been exported so far."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, tracer = InMemorySpanExporter(), sdk.TracerProvider()
    tracer.add_span_processor(SimpleSpanProcessor(exporter))
    app = make_app()
    app.add_middleware(Tracing, provider=tracer, version="1")
    yield app, exporter
    tracer.shutdown()


async def test_a_swap_is_a_span_with_one_below_it_for_each_step() -> None:
    with traced_app() as (app, exporter):
        async with serving(app) as client:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"}
            files = {"image": ("p.png", photo(), "image/png")}
            answer = await client.post("/swap?target=echo&output=photo", files=files, headers=headers)
            await client.get("/health/ready")
        spans = exporter.get_finished_spans()
    assert answer.status_code == 200
    (whole,) = [span for span in spans if span.parent is None or span.parent.is_remote]
    steps = [span for span in spans if span is not whole]
    assert whole.name == "POST /swap"
    assert (format(whole.context.trace_id, "032x"), format(whole.parent.span_id, "016x")) == (TRACE, PARENT)
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.attributes["faceswapd.request_id"] == "mine" == answer.headers["x-request-id"]
    assert {"read", "detect", "queue", "encode", "decode", "paste", "write"} <= {step.name for step in steps}
    assert all(step.parent.span_id == whole.context.span_id for step in steps)
    for step in steps:
        assert whole.start_time - 2e6 <= step.start_time <= step.end_time <= whole.end_time, step.name
    order = [step.name for step in sorted(steps, key=lambda step: step.end_time) if step.name != "queue"]
    assert order == ["read", "detect", "encode", "decode", "paste", "write"]


async def test_a_trace_that_is_not_sampled_costs_no_spans_and_no_words_of_the_client_are_in_one() -> None:
    with traced_app() as (app, exporter):
        async with serving(app) as client:
            files = {"image": ("SECRET.png", photo(), "image/png")}
            unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
            await client.post("/swap?target=echo", files=files, headers=unsampled)
            assert not exporter.get_finished_spans()
            await client.get("/SECRET?SECRET=1", headers={"User-Agent": "SECRET"})
            await client.request("SECRET", "/swap")
            await post(client, target="SECRET")
        told = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert '"GET (none)"' in told and '"unknown-identity"' in told
    assert "SECRET" not in told


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_what_it_cannot_do_is_one_line(environment: dict[str, str]) -> None:
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
    with pytest.raises(TracingError, match=r"^OTEL_\w+: [^\n]+$"):
        provider("1", environment)


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    taken: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        type(self).taken.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_running_service_sends_its_spans_to_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    Collector.taken = []
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        with (tmp_path / "log").open("w+") as log, slow_service(log) as service:
            assert service.request("POST", "/swap?target=echo", photo())[0] == 200
            assert service.stop() == 0
        collector.shutdown()
    (path, body), *_ = Collector.taken
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    facts = {each.key: each.value.string_value for each in resource.resource.attributes}
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert (path, facts["service.name"]) == ("/v1/traces", "faceswapd")
    assert "POST /swap" in names and "encode" in names
