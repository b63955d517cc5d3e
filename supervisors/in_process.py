#!/usr/bin/env python
"""The in-process shape: one program, one signal handler, one log stream.

    +-------------------------------- one process --------------------------------+
    |                                                                             |
    |   app  <-->  ConnectorHost  <-->  shared memory  <-->  gateway task         | <--> broker
    |                                                        (restarted by policy)|
    +-----------------------------------------------------------------------------+

    python supervisors/in_process.py examples.echo:deployment --broker mqtt://localhost

It is `taktora-trio run --mode in-process` with the same options; the shape itself is defined, in one function, in
`taktora_trio/runners/in_process.py`:

1. check the plan of shared memory, take the domain, sweep what a killed run has left, create every service;
2. open the host, start the gateway as a supervised task: a crash is a `HealthEvent`, and a restart by policy;
3. run the app until it returns or a signal comes, then let the gateway publish what is queued, and end.
"""

from taktora_trio.cli import main

if __name__ == "__main__":
    main("run", "--mode", "in-process")
