"""Chaos for Zenoh.

kit         what chaos needs of a protocol
app         the deployment under test, with connector.py as its connector
subscriber  the independent subscriber, which acknowledges and gives back
"""
