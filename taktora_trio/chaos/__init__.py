"""Chaos: a deployment under load, faults from a seeded schedule, and a check after each that promises held.

`taktora-trio chaos` starts a broker of its own, a TCP proxy in front of it, and `taktora-trio run`.

command      the command, with options.py
schedule     which fault comes when: pure, the same for the same seed
faults       each fault: how it is brought about, what must be seen of it, whom it may replace; fault is what one is
injecting    brings them about; greed takes all cores and memory
invariants   what must hold after each, pure
tally        the numbers that an independent subscriber has seen: gaps, repeats
runner       runs all of it
report       shows results, and writes them
kit          all that chaos needs of a protocol; each package here is a protocol's
subject      the deployment under test, as a process
app          its app, with faulty.py to make its connector fail and telemetry.py to tell what it sees
observer     hears what the app tells
subscriber   the independent subscriber
proxy        a TCP proxy that can fail
private_shm  a small /dev/shm of our own, which may be filled
processes    what the kernel says of processes
looking      waiting for what announces nothing
"""
