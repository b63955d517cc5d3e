"""From a deployment to running processes.

run, hosting            the public functions: a deployment as a program, and in a program that is the app itself
deployment              an app and its connectors, declared once
loading, finding        from a name to a deployment or an app, and from a deployment to its name
options                 what an operator has typed: options of the commands
secrets, settings_help  passwords on their way to the gateway, and help about settings
child_log               the output of a gateway's process, in the log of the program that has started it

scripts/       the two shapes: what the command runs, and what a user may copy
parts/         what a shape is composed of
configuration/ what an operator has given in a file, in the environment and at the command line
command/       the commands that run something, and the process of each half
this_process/  what a process has inherited, its log, its signals, and how it ends
"""
