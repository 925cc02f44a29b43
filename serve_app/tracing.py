"""Spans of this project within those of Serve, which carries the trace from deployment to deployment.

Serve traces in processes whose environment says so; it asks `otlp` there where spans go. Elsewhere nothing of
OpenTelemetry is imported here, and `span` costs a comparison.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from search_core.errors import UsageError
from search_core.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

FASTAPI: Final[Any] = {"tracing": False, "metrics": False, "logs": False}
"""For FastAPI, which from 0.165 begins a trace of its own in the middle of Serve's."""

_tracer: Tracer | None = None


def export_to(settings: TracingSettings) -> None:
    """Turns tracing on in the processes that this one will start, by their environment.

    Raises:
        UsageError: the exporter is not installed.
    """
    if settings.endpoint is None:
        return
    try:
        exporter = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        exporter = None
    if exporter is None:
        raise UsageError("serve.tracing needs an exporter: pip install 'image-search-engine[tracing]'")
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = settings.endpoint
    os.environ.setdefault("OTEL_SERVICE_NAME", "image-search")
    os.environ["RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH"] = f"{__name__}:{otlp.__name__}"
    os.environ["RAY_SERVE_TRACING_SAMPLING_RATIO"] = str(settings.sampling_ratio)


def otlp() -> list[SpanProcessor]:
    """Sends spans by OTLP over HTTP, as OpenTelemetry's own variables say (OTEL_*). Called by Serve."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _tracer  # one for the process, as Serve's
    _tracer = trace.get_tracer("image_search")
    return [BatchSpanProcessor(OTLPSpanExporter())]


def span(name: str, **attributes: str | int) -> AbstractContextManager[Any]:
    """A span within the one that runs; none where tracing is off or the request is not sampled."""
    if _tracer is None:
        return nullcontext()
    from opentelemetry import trace

    if not trace.get_current_span().is_recording():
        return nullcontext()
    return _tracer.start_as_current_span(name, attributes=attributes)
