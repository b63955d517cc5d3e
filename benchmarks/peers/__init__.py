"""The contestants of `throughput.py`, each a process of its own, given orders by `control.py`.

through_gateway.py    ours: the app, in either shape, with either session
session_directly.py   the gateway's session without the gateway: what the gateway adds to it
with_aiomqtt.py       aiomqtt 2 under asyncio, one publish after the other, or several at once
with_aiomqtt3.py      aiomqtt 3, in an environment of its own
with_gmqtt.py         gmqtt under asyncio
with_mqttium.py       MQTTium under asyncio, until all receipts have come, with its store or without
with_zmqtt.py         zmqtt under asyncio
with_mqttjs.py        MQTT.js under Node (`with_mqttjs.js`)
with_paho.py          paho's threaded loop
with_mosquitto.py     mosquitto_pub and mosquitto_sub, in C
control.py            what they are told, and what they answer
pace.py               sending on a schedule
loops.py              asyncio's own event loop, or uvloop's

Each is written as its library's documentation invites to, with TCP_NODELAY set; `contestants.py` configures them.
"""
