"""Zenoh over several hosts: routers that are killed, hosts that are cut off, peers that find each other.

node.py, nodes.py   plain Zenoh sessions as processes: routers, and others that have no taktora_trio
counting_apps.py    a deployment that sends numbers, and one that hears them
counting.py         both on hosts, and what became of the numbers
"""
