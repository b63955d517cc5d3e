"""Deployments as an operator runs them: `make operate`."""
