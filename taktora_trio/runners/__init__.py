"""From a deployment to running processes.

scripts/                the two shapes: what the command runs, and what a user may copy
run, hosting            the public functions: a deployment as a program, and in a program that is the app itself
deployment              what is declared, once
loading, finding        from a name to a deployment or an app, and back
options, settings       what was given at the command line; secrets, settings_help
launch, supervisor      the `run` command, and the small program that takes its place for the split shape
both, half              both halves, or one, as a command has them: configured, logged, stopped by signals
plugin, gateway         each half's process
gateway_task            the gateway as a task; gateway_thread: in a thread of its own
halves, relay           the child processes of a supervisor, and what each learns of the other; start_halves
owning, outlasting      a domain that is owned, and the order of a stop
app, outcome            how an app ends, and what becomes of that
status, revival         what a run says of itself, and what it can be asked for
logs, relayed_output    lines for people or machines
signals, until_stopped  when it stops
surroundings, limits, pid1, naming   what a process has inherited
"""
