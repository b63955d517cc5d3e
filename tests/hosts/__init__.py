"""Hosts of a test's own: network namespaces on one machine, joined by switches, each with an address of its own.

network.py  open_network, Network, Host
anchor.py   the process that each namespace belongs to
"""
