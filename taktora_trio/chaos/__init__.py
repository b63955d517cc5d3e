"""Chaos: a split deployment under load, faults from a seeded schedule, and a check after each that promises held.

`taktora-trio chaos` starts a mosquitto of its own, a TCP proxy in front of it, and `taktora-trio run --mode split`.

command.py      the command, with options.py: what it can be told
schedule.py     which fault comes when: pure, the same for the same seed
faults.py       each fault: how it is brought about, what must be seen of it, whom it may replace
invariants.py   what must hold after each, pure
tally.py        the numbers that an independent subscriber has seen: gaps, repeats
runner.py       puts it together and runs it
report.py       what is shown, and written
subject.py      the deployment under test, as a process
app.py          its app, with faulty.py as its connector and telemetry.py to tell what it sees
observer.py     hears what the app tells
subscriber.py   the independent subscriber
mosquitto.py    a broker under control, as server.py controls any server
proxy.py        a TCP proxy that can fail
private_shm.py  a small /dev/shm of our own, which may be filled
processes.py    what the kernel says of processes
looking.py      waiting for what announces nothing
"""
