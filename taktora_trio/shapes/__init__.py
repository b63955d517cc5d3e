"""What each operating-system process runs: one module a kind of process.

in_process.py   both halves in one process
split.py        the supervisor of a plugin process and a gateway process
plugin.py       the app's half, under our supervisor or alone
gateway.py      the protocol's half, under our supervisor or alone
"""
