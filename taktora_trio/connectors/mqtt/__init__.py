"""The MQTT connector. The plugin half is here; the protocol stack is imported only in `sessions/`, by the gateway.

connector.py   MqttConnector: what an app declares
routing.py     MqttRouting: topic, QoS, retain
templates.py   topics with fields of the message in them
options.py     the broker's address, and how to talk to it
topics.py      topic names and filters: valid, matching, covering
client.py      MqttClient: MQTT's side of a gateway, over all its connections
connection.py  MqttConnection: one of them; sequence numbers outside, packet identifiers inside
outbound.py    the packet identifiers of each outbound channel
exactly_once.py  QoS 2, over connections and gateways
subscriptions.py  subscribes what the channels want, and nothing that is left over
filters.py     which filters these are: pure
record.py      the same on disk, for a later version of the deployment
presence.py    a retained `Up` or `Down` for whoever else is at the broker
sessions/      one connection to a broker, behind one interface
embedded.py    a broker of our own, for demos
"""

from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.options import BrokerAddress, LastWill, MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting

__all__ = ["BrokerAddress", "LastWill", "MqttConnector", "MqttOptions", "MqttRouting"]
