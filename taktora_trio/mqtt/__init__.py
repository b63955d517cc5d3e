"""The MQTT connector. The plugin half is here; the protocol stack is imported only in `sessions/`, by the gateway.

connector.py   MqttConnector: what an app declares
routing.py     MqttRouting: topic, QoS, retain
templates.py   topics with fields of the message in them
options.py     the broker's address, and how to talk to it
topics.py      topic names and filters: valid, matching, covering
bridge.py      the gateway half: channels on one side, a session on the other
sessions/      one connection to a broker, behind one interface
embedded.py    a broker of our own, for demos
"""

from taktora_trio.mqtt.connector import MqttConnector
from taktora_trio.mqtt.options import BrokerAddress, MqttOptions
from taktora_trio.mqtt.routing import MqttRouting

__all__ = ["BrokerAddress", "MqttConnector", "MqttOptions", "MqttRouting"]
