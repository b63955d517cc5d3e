"""Chaos for MQTT.

kit         what chaos needs of a protocol
app         the deployment under test, with connector.py as its connector
subscriber  the independent subscriber
"""
