"""Traces by OpenTelemetry, where the standard variables ask for them; a span for each step of a swap.

The steps come from the `Clock` of service/telemetry.py. The SDK and its exporter are in the extra `otel`, and
nothing of them is imported while traces are off. Spans hold neither pictures nor words of the client's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry import NO_ROUTE, REQUEST, RequestFacts

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = ("otlp", "console")
PROTOCOL = "http/protobuf"
NAME = "faceswapd"


class TracingError(Exception):
    """Traces are asked for and cannot be made; the message is one line."""


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """By an endpoint, or by OTEL_TRACES_EXPORTER; OTEL_SDK_DISABLED and the exporter `none` win."""
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none"
    return not off and bool(exporter or any(environment.get(name) for name in ENDPOINTS))


def provider(version: str, environment: Mapping[str, str] = os.environ) -> TracerProvider:
    """As the OTEL_* variables say: endpoint, headers, sampler, service name. Raises TracingError."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingError("the OTEL_ variables ask for traces: pip install 'faceswapd[otel]'") from None
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": NAME}
    made = TracerProvider(resource=Resource.create({**named, "service.version": version}))
    made.add_span_processor(BatchSpanProcessor(_exporter(environment)))
    return made


def _exporter(environment: Mapping[str, str]) -> Any:
    wanted = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if wanted not in EXPORTERS:
        raise TracingError(f"OTEL_TRACES_EXPORTER: {' or '.join(EXPORTERS)} are known, or none")
    if wanted == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environment.get(name, PROTOCOL) != PROTOCOL:
            raise TracingError(f"{name}: {PROTOCOL} is what the extra otel speaks")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise TracingError("the OTEL_ variables ask for traces: pip install 'faceswapd[otel]'") from None
    return OTLPSpanExporter()


class Tracing:
    """The outermost layer where traces are on: a span for the request, below it one for each step.

    A request that comes with `traceparent` goes on with that trace. Streams, which may last for hours,
    have none.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider, version: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = provider.get_tracer(NAME, version)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(("/health", "/metrics")):
            await self._app(scope, receive, send)
            return
        span = self._begin(scope)
        trace_id = format(span.get_span_context().trace_id, "032x")
        facts = RequestFacts("", trace_id, [] if span.is_recording() else None)
        before = REQUEST.set(facts)
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            REQUEST.reset(before)
            self._end(span, scope, facts, status)

    def _begin(self, scope: Scope) -> Any:
        from opentelemetry.trace import SpanKind

        carrier = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        return self._tracer.start_span("request", self._propagator.extract(carrier), SpanKind.SERVER)

    def _end(self, span: Any, scope: Scope, facts: RequestFacts, status: int) -> None:
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        below = set_span_in_context(span)
        for step, end_ns, seconds in facts.steps or ():
            self._tracer.start_span(step, below, start_time=end_ns - round(seconds * 1e9)).end(end_ns)
        state = scope.get("state", {})
        route = str(state.get("route", NO_ROUTE))
        span.update_name(f"{state.get('method', '?')} {route}")
        span.set_attribute("http.request.method", str(state.get("method", "?")))
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("faceswapd.request_id", facts.id)
        if "problem" in state:
            span.set_attribute("error.type", str(state["problem"]))
        if status >= 500 or status == 0:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
