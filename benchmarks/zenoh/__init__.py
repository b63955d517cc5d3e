"""Through a Zenoh router: this package's gateway, Zenoh used directly, and MQTT's figures beside them.

__main__.py  the command: throughput out and in, round trips, CPU time, how late ticks are
table.py     what it prints
network.py   the router and what is around it
counter.py   the independent subscriber
echo.py      sends each message back
source.py    sends messages for a contestant to receive
node.py      a node of the library's, used directly
"""
