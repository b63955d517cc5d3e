"""The HTTP endpoint of a run, and the check of a container that asks the same."""
