"""Prometheus itself: it scrapes an endpoint, and `promtool` checks metrics, rules and the board."""
