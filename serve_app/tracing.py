"""Spans of this project within those of Serve, which carries the trace from deployment to deployment.

Serve's `tracing_config` names `serve_app.tracing:otlp` as its exporter, and calls it in each process where tracing is
on. Elsewhere nothing of OpenTelemetry is imported here, and `span` costs a comparison.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from search_core.errors import UsageError
from search_core.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer
    from ray.serve.schema import TracingConfig

EXPORTER = "serve_app.tracing:otlp"
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

_tracer: Tracer | None = None


def otlp() -> list[SpanProcessor]:
    """Where Serve is to send spans: by OTLP over HTTP, as OpenTelemetry's own variables say (OTEL_*)."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _tracer  # Serve keeps its switch for this process likewise
    _tracer = trace.get_tracer("image_search")
    return [BatchSpanProcessor(OTLPSpanExporter())]


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """A span within the one that runs; none where tracing is off or this request is not sampled."""
    if _tracer is None:
        return nullcontext()
    from opentelemetry import trace

    if not trace.get_current_span().is_recording():
        return nullcontext()
    return _tracer.start_as_current_span(name, attributes=attributes)


def export_to(settings: TracingSettings) -> None:
    """Tells the processes that this one will start where spans go, by their environment.

    Raises:
        UsageError: the exporter is not installed.
    """
    if settings.endpoint is None:
        return
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UsageError("serve.tracing needs an exporter: pip install 'image-search-engine[tracing]'")
    os.environ[ENDPOINT_VARIABLE] = settings.endpoint


def serve_config(settings: TracingSettings) -> TracingConfig | None:
    """What Serve is told on one machine; None leaves it to the Serve config."""
    if settings.endpoint is None:
        return None
    from ray.serve.schema import TracingConfig

    return TracingConfig(enabled=True, exporter_import_path=EXPORTER, sampling_ratio=settings.sampling_ratio)
