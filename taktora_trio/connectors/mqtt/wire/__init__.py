"""MQTT on the wire, without I/O: packets as bytes, the state of the protocol, and the engine that drives it."""
