"""Example apps; each runs in both shapes."""
