"""Brokers for tests: two real ones behind one interface, a hostile one, and what looks at their connections.

nats.py        NATS server, beside tests/mosquitto.py
hostile.py     a broker that plays a script, and breaks every rule in it
tap.py         a proxy that counts the packets that pass, and holds them back
listener.py    an independent subscriber and publisher, with sessions that last
packets.py     the packets of MQTT 3.1.1
"""
