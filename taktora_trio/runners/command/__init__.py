"""The commands that run something.

launch, supervisor             the `run` command, and the small program that takes its place for the split shape
both                           both halves, as `run` has them: configured, logged, stopped by signals
start_halves, relayed_output   the halves' command lines, and what they print
half                           the `plugin` and `gateway` commands
plugin, gateway                the process of each half
"""
