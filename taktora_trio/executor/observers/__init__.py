"""Ready observers, each in a module that imports its library, and nothing else does.

structlog       StructlogObserver: each occurrence as one log entry (extra `structlog`)
prometheus      PrometheusObserver: counters and histograms (extra `prometheus`)
opentelemetry   SpanObserver: each cycle as a span (extra `opentelemetry`)
"""
