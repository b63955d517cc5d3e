"""The parts of a shape. The scripts are composed of them by their public names, and so may a runner of yours be.

owning        a domain that this process owns, ready to be used
app           runs the app
gateway_task  the gateway as a task; gateway_thread: in a thread of its own
halves        the child processes of a supervisor; relay: what each learns of the other
outlasting    the order of a stop; plugin_first: where both halves are stopped at once
incarnations  one gateway after another in this process, each until it is asked to leave
status        what a process says of itself
flight        its flight recorder; flight_files has the files of it written
asking        finds the process that can do what an operator asks for; requests: how it is asked, and answers
control       does that, and audit logs it; levels: which half logs as it was told to
reload        its configuration is read again; arrival: waits for what has started
revival       how it is asked to start its gateway again, and answers
naming        a warning about temporary names, by which the other side knows a gateway until its next start
"""
