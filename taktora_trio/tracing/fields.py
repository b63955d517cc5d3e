"""The two fields of W3C Trace Context (https://www.w3.org/TR/trace-context/), as user properties of a message."""

from __future__ import annotations

from typing import TypeAlias

from taktora_trio.channels.message import Metadata, with_properties
from taktora_trio.errors import check_library

__all__ = ["FIELDS", "TRACE_SPACE", "Trace", "check_tracing", "trace_alone", "trace_of", "with_trace"]

Trace: TypeAlias = tuple[tuple[str, str], ...]
"""The fields that there are: `traceparent`, and perhaps `tracestate`. Empty for no trace."""

_LONGEST = {
    "traceparent": 64,
    "tracestate": 512,
}  # characters; everybody has to pass on 512 of a state (section 3.3.1.5)
FIELDS = frozenset(_LONGEST)
TRACE_SPACE = 640
"""Bytes of metadata in each message: both fields at their longest, their names, and 5 bytes for each text and pair."""


def check_tracing() -> None:
    """Raise `ConfigError` if the library is missing, without importing it."""
    check_library("tracing=True", "opentelemetry.trace", "opentelemetry-api", "opentelemetry")


def trace_of(metadata: Metadata) -> Trace:
    """Return what it says of a trace. It comes from outside, so nothing of it is known to be true but its length."""
    found: dict[str, str] = {}
    for name, value in metadata.user_properties:
        if name in FIELDS and len(value) <= _LONGEST[name] and value.isascii():
            found.setdefault(name, value)
    return tuple(found.items()) if "traceparent" in found else ()


def trace_alone(metadata: Metadata) -> Metadata | None:
    """Return metadata with its trace and nothing else; `None` if it has none."""
    trace = trace_of(metadata)
    return Metadata(user_properties=trace) if trace else None


def with_trace(metadata: Metadata, trace: Trace) -> Metadata:
    """Return the metadata with this trace instead of any that it has."""
    return with_properties(metadata, FIELDS, trace)
