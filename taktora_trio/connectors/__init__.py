"""Connectors: what each protocol needs, once, and a package for each protocol."""
