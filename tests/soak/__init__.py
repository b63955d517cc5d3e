"""Finds leaks: deployments under churn for a time, and what each process holds fitted by a line.

python -m tests.soak --minutes 60

trend    the line, its slope and how sure that is: pure
limits   how much a slope may be, and the verdict: pure
sampling what the kernel says of processes and files
app      the app under churn
churn    four deployments, one broker, and what is done to them
page     docs/soak.md and the table
plot     docs/soak.png and .svg, in an environment of its own
"""
