"""The process that this is, whatever it runs: nothing here knows a deployment.

surroundings, limits, pid1   make what it has inherited fit to work with
collecting, punctual         make it fit for thousands of channels, and for being on time
logs                         logs, in one of log_formats, what is no repetition (repeats); flight_log: into a ring, too
fencing                      keeps it from taking more than an operator gives it
signals, until_stopped       stop it: politely, then by force
outcome                      ends it: a result, errors, an exit code
"""
