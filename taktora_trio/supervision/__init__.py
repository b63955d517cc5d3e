"""Supervision: when something that failed is started again. Decided purely, and carried out for tasks and processes.

backoff     the delays between attempts
policy      the decisions of an operator
engine      the decision: a pure function
supervisor  carries the decision out, for anything that can be started and ends
task        a task as something to supervise
allowance   a token bucket: events at once, and a second
explain     a policy in figures, before anything is started
"""
