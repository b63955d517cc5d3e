"""MQTT on the wire, without any input or output: packets, and the state of the protocol."""
