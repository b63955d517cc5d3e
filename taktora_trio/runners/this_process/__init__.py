"""The process that this is, whatever it runs: nothing here knows a deployment.

surroundings, limits, pid1   make what it has inherited fit to work with
logs                         logs lines for people or machines
fencing                      keeps it from taking more than an operator gives it
signals, until_stopped       stop it: politely, then by force
outcome                      ends it: a result, errors, an exit code
"""
