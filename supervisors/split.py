#!/usr/bin/env python
"""The split shape: the app and the protocol stack in processes of their own, under a small supervisor.

    +------------------------------ supervisor -------------------------------+
    |   owns the domain, creates every service, restarts each half by policy  |
    +-------------------------------------------------------------------------+
           |                                                  |
    +-- plugin process ---------+                      +-- gateway process ---------+
    |  app  <-->  ConnectorHost | <-- shared memory --> |  ConnectorGateway, MQTT   | <--> broker
    +---------------------------+                      +----------------------------+

    python supervisors/split.py examples.echo:deployment --broker mqtt://localhost

It is `taktora-trio run --mode split` with the same options; the shape itself is defined, in one function, in
`taktora_trio/runners/split.py`:

1. check the plan of shared memory, take the domain, sweep what a killed run has left, create every service;
2. start `taktora-trio gateway` and `taktora-trio plugin`, each in a process group of its own, each under its policy;
3. when the app has ended or a signal comes: stop the plugin, then the gateway, which publishes what is queued.
"""

from taktora_trio.cli import main

if __name__ == "__main__":
    main("run", "--mode", "split")
