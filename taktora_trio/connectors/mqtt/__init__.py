"""The MQTT connector. An app imports what it declares, the gateway the rest; a protocol stack is in `sessions/` alone.

What an app declares:

    connector.py      MqttConnector
    routing.py        MqttRouting: topic, QoS, retain
    options.py        MqttOptions: how to talk to the broker
    address.py        BrokerAddress: the broker's URL
    topics.py         topic names and filters: valid, matching, covering
    checks.py         validators of what MQTT sends

What the command asks it for:

    settings.py       its options of the command line
    preflight.py      a check before a run starts: something listens at the broker's address
    diagnosis/        what `taktora-trio doctor` finds out about its brokers
    describing.py     what it says of its channels to others
    forget.py         has the broker forget a client that is gone for good
    events.py         what each of its log lines means, and what to do
    embedded/         a broker for demos

What the tests of an app ask it for:

    peer.py           the brokers within the test's process

In the gateway:

    client.py         MqttClient: MQTT's side of a gateway, over all its connections
    choice.py         which of several brokers is next
    handover.py       opens a connection while another one works
    connection.py     MqttConnection: one of them; sequence numbers outside, packet identifiers inside
    outbound.py       the packet identifiers of each outbound channel
    own_topics.py     topics of this client alone, such as for replies
    exactly_once.py   QoS 2, over connections and gateways
    subscriptions.py  subscribes to what the channels want, and to nothing that is left over
    filters.py        the filters of the channels: which to ask for, which the broker refuses
    record.py         on disk: which filters a client has subscribed, for a later version of the deployment
    presence.py       a retained `Up` or `Down` for whoever else is at the broker
    sessions/         one connection to a broker, behind one interface: native, aiomqtt, memory
    wire/             MQTT without I/O: packets, and the state of the protocol
"""

from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.options import BrokerAddress, LastWill, MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting

__all__ = ["BrokerAddress", "LastWill", "MqttConnector", "MqttOptions", "MqttRouting"]
