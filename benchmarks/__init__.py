"""Measures the project's promises of speed and size, against peers in the same run.

python -m benchmarks.run [--quick] [--json FILE]

run.py         runs all of it and prints one table
one_hop.py     ChannelWriter to ChannelReader, against `bare.py`
bare.py        the same hop by bare iceoryx2 calls
to_broker.py   app to broker through both halves (the app: `flood.py`), against `sequential.py`
sequential.py  one aiomqtt publish after the other
throughput.py  app to broker in both shapes and with each session, against the clients of `peers/` used directly
contest.py     such a contest: contestants in turn, `counter.py` behind the broker, `echo.py` for round trips
counter.py     the independent subscriber
echo.py        sends each message back
wire.py        as much of MQTT as those two need
peers/         the contestants, and how they are given orders
scaling.py     cost as work grows: channels, payloads, filters; `scaling_plot.py` draws it
memory.py      what idle processes hold
install.py     what an installation takes: packages, megabytes, imports
cycle.py       what the executor costs a cycle, against a loop by hand
isolation.py   how late a 10 ms item is while its gateway fares badly (the app: `isolation_app.py`), in four set-ups
mosquitto.py   a broker for the time of a benchmark
children.py    processes for the time of a benchmark
message.py     what is sent, numbered
recovery.py    killed and hung gateways; the app is `recovery_app.py`
kills.py       a thousand kills
report.py      figures, targets, tables
"""
