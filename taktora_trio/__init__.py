"""taktora-trio: messy network code must not be able to hurt the application that needs it.

An app (the *plugin*) exchanges typed messages through shared memory with a *gateway* that speaks MQTT; the same app
runs with both in one process or in two.

The layers, each importing only those above it (checked by import-linter):

    startpath                                    where a program of ours looks for modules
    errors, escaping                             the family of errors; how words from the other side are shown
    channel, codec, health, connector            the contracts: no shared memory, no protocol
    supervision/                                 restart policy; supervise a task or a process
    transport/                                   shared memory: the only package that imports iceoryx2
    executor/                                    items on triggers; exports its own names
    mqtt/                                        the MQTT connector; `sessions/` alone imports a protocol stack
    host, gateway                                the two halves
    deployment                                   an app plus its connectors
    shapes/                                      what each operating-system process runs
    cli                                          the `taktora-trio` command
"""

from taktora_trio import startpath as startpath  # before anything else is imported

# isort: split
from taktora_trio.channel import ChannelDescriptor, Header, Inbound, Metadata, Outbound, Received, Routing
from taktora_trio.codec import JsonCodec, MsgpackCodec, PayloadCodec, RawCodec
from taktora_trio.connector import Connector
from taktora_trio.deployment import Deployment
from taktora_trio.errors import (
    BackPressure,
    CodecError,
    ConfigError,
    ConnectorDown,
    ConnectorError,
    DomainInUse,
    PayloadOverflow,
    ServiceMismatch,
    TransportError,
)
from taktora_trio.gateway import ConnectorGateway
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, Failure, HealthEvent, Up
from taktora_trio.host import ConnectorHost
from taktora_trio.mqtt import BrokerAddress, LastWill, MqttConnector, MqttOptions, MqttRouting
from taktora_trio.supervision import Backoff, RestartPolicy
from taktora_trio.transport.reader import ChannelReader
from taktora_trio.transport.writer import ChannelWriter

__all__ = [
    "BackPressure",
    "Backoff",
    "BrokerAddress",
    "ChannelDescriptor",
    "ChannelReader",
    "ChannelWriter",
    "CodecError",
    "ConfigError",
    "Connecting",
    "Connector",
    "ConnectorDown",
    "ConnectorError",
    "ConnectorGateway",
    "ConnectorHealth",
    "ConnectorHost",
    "Degraded",
    "Deployment",
    "DomainInUse",
    "Down",
    "Failure",
    "Header",
    "HealthEvent",
    "Inbound",
    "JsonCodec",
    "LastWill",
    "Metadata",
    "MqttConnector",
    "MqttOptions",
    "MqttRouting",
    "MsgpackCodec",
    "Outbound",
    "PayloadCodec",
    "PayloadOverflow",
    "RawCodec",
    "Received",
    "RestartPolicy",
    "Routing",
    "ServiceMismatch",
    "TransportError",
    "Up",
]

__version__ = "0.1.0"
