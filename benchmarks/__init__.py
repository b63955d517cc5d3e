"""Measures the project's promises of speed and size, against peers in the same run.

python -m benchmarks.run [--quick] [--json FILE]

run.py         runs all of it and prints one table
one_hop.py     ChannelWriter to ChannelReader, against `bare.py`
bare.py        the same hop by bare iceoryx2 calls
to_broker.py   app to broker through both halves (the app: `flood.py`), against `sequential.py`
sequential.py  one aiomqtt publish after the other
throughput.py  app to broker in both shapes and with each session, against the clients of `peers/` used directly
latency.py     the same contestants at fixed rates: from due to arrival; `latency_plot.py` draws it
idle.py        the same contestants with nothing to do, and with little: CPU time and wake-ups of each process
contestants.py who takes part, and how each is configured
contest.py     such a contest: contestants in turn, `counter.py` behind the broker, `echo.py` for round trips
features.py    what becomes of an app and its messages when the connection, or the process that has it, breaks
arrivals.py    the independent subscriber of what is sent on a schedule
counter.py     the independent subscriber
echo.py        sends each message back
source.py      sends messages for a contestant to receive
zenoh/         the same contest at a Zenoh router: our gateway, Zenoh used directly, and MQTT's figures beside them
wire.py        as much of MQTT as those two need
peers/         the contestants, and how they are given orders
scaling/       cost as work grows: channels, payloads, filters; with exponents, and drawn
memory.py      the memory of idle processes, and what each import costs them (`importing/` looks on)
install.py     the size of an installation: packages, megabytes, imports
cycle.py       the cost of the executor for a cycle, against a loop by hand
isolation.py   the lateness of a 10 ms item while its gateway fares badly (the app: `isolation_app.py`), in four set-ups
fleet.py       100,000 gateways that come back to a cluster, simulated; `fleet_plot.py` draws it
sessions.py    1,000 sessions at one broker: memory, CPU time, and how soon they are back, against that simulation
mosquitto.py   a broker for the time of a benchmark
children.py    processes for the time of a benchmark
message.py     numbered messages
recovery.py    the times after kills and hangs of a gateway; the app is `recovery_app.py`
kills.py       a thousand kills, and whether anything is left or broken
report.py      figures, targets, tables
gate/          the regression gate: ten headline figures beside those of a commit
"""
