"""Traces: a span for each call, and in it how long its images waited in the queue and how long the model took.

The call's span, and the caller's trace that it belongs to, are the work of OpenTelemetry's own interceptor for
gRPC; where spans go and which are kept, its own environment variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`). Needs the extra `traces`; this module is imported for `--traces` alone.
"""

import logging
import os
import threading
import time
from importlib.metadata import version
from typing import Final

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import filters, server_interceptor
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from serving.closing import Closing
from serving.ticket import Ticket
from serving.watching import Run

log = logging.getLogger(__name__)

_NAME: Final = "ledgate"
# How long the end of the server waits for what has been traced to be taken.
_CLOSE_S: Final = 2.0


class Traces(Closing):
    """From its making until `close`, which sends what has not been sent.

    Args:
        exporter: Where spans go; None sends them by OTLP to where the environment says.

    Attributes:
        interceptor: gRPC's, around every call but those for health; the outermost.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        names = {SERVICE_VERSION: version(_NAME)}
        if not os.environ.get(OTEL_SERVICE_NAME):
            names[SERVICE_NAME] = _NAME
        # Ours alone and not the process's: whoever embeds the server has their own.
        self._provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
        self._exporter = exporter or OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(_NAME, version(_NAME))
        self.interceptor: grpc.ServerInterceptor = server_interceptor(  # type: ignore[no-untyped-call]
            tracer_provider=self._provider, filter_=filters.negate(filters.health_check())
        )

    def ran(self, run: Run) -> None:
        """A watcher: the spans of all requests of a batch."""
        epoch_s = time.time() - time.monotonic()  # of the clock of tickets and runs
        images = sum(ticket.count for ticket in run.tickets)
        for ticket, own in run.rows():
            flagged = run.verdicts.adversarial
            facts: dict[str, str | int] = {
                "ledgate.model": run.model,
                "ledgate.bundle_digest": run.detector.bundle.digest,
                "ledgate.images": ticket.count,
                "ledgate.batch_images": images,
            }
            if flagged is not None:
                facts["ledgate.flagged_images"] = int(flagged[own].sum())
            self._span("queue", ticket, epoch_s + ticket.since_s, epoch_s + run.begun_s, {})
            self._span("compute", ticket, epoch_s + run.begun_s, epoch_s + run.ended_s, facts)

    def close(self) -> None:
        """Sends what is left, if somebody takes it in time; a collector that has gone must not keep the server."""
        sending = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        sending.start()
        sending.join(_CLOSE_S)
        if sending.is_alive():
            log.warning("traces: expected a collector to take the last ones within %g s, found none", _CLOSE_S)
            self._exporter.shutdown()  # ends the try that is under way, and keeps those from starting that would follow

    def _span(self, name: str, ticket: Ticket, begun_s: float, ended_s: float, facts: dict[str, str | int]) -> None:
        """A span that is over, under the span of the ticket's call."""
        context = ticket.whole.context
        if context is None:
            return
        parent = trace.set_span_in_context(context.run(trace.get_current_span))
        if ticket.request_id:
            facts = {**facts, "ledgate.request_id": ticket.request_id}
        span = self._tracer.start_span(name, context=parent, attributes=facts, start_time=_nanoseconds(begun_s))
        span.end(end_time=_nanoseconds(ended_s))


def _nanoseconds(seconds: float) -> int:
    """As OpenTelemetry counts time."""
    return int(seconds * 1e9)
