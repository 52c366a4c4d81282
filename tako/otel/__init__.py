"""Spans and meters for OpenTelemetry (extra ``otel``).

tako speaks to OpenTelemetry's API only. Which SDK there is, and where it exports to, is
the program's to say, or ``opentelemetry-instrument``'s; without one nothing is done.
"""

from tako.otel.tracing import tracing


__all__ = ["tracing"]

tracing.__module__ = __name__  # what users import it as
