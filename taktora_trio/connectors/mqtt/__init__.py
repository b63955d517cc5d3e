"""The MQTT connector. The plugin half is here; the protocol stack is imported only in `sessions/`, by the gateway.

connector.py   MqttConnector: what an app declares
routing.py     MqttRouting: topic, QoS, retain
templates.py   topics with fields of the message in them
options.py     the broker's address, and how to talk to it
topics.py      topic names and filters: valid, matching, covering
bridge.py      the gateway half: channels on one side, a session on the other; the connection, again and again
outbound.py    a channel's messages to the broker
inbound.py     the broker's messages to the channels, and their acknowledgements
subscriptions.py  what the session at the broker is subscribed to: what the channels want, and nothing left over
record.py      the same on disk, for a later version of the deployment
presence.py    a retained `Up` or `Down` for whoever else is at the broker
sessions/      one connection to a broker, behind one interface
embedded.py    a broker of our own, for demos
"""

from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.options import BrokerAddress, LastWill, MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting

__all__ = ["BrokerAddress", "LastWill", "MqttConnector", "MqttOptions", "MqttRouting"]
