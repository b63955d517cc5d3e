"""The trace that a message belongs to (W3C Trace Context), carried as two of its user properties.

fields.py      the two properties, and the room that they take: without a library
context.py     between these and OpenTelemetry's contexts (extra `opentelemetry`)
continuing.py  what an app continues a trace with
"""
