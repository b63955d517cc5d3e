"""Chaos for MQTT.

kit         what chaos needs of a protocol
app         the deployment under test, with connector.py as its connector
mosquitto   a broker under control
subscriber  the independent subscriber
"""
