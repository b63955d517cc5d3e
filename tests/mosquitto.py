"""A real broker for tests: mosquitto on a free port of loopback, with the configuration that a test asks for."""

from taktora_trio.chaos.mosquitto import Mosquitto, find_mosquitto, free_port, open_mosquitto

__all__ = ["Mosquitto", "find_mosquitto", "free_port", "open_mosquitto"]
