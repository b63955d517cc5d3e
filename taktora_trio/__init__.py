"""taktora-trio: messy network code must not be able to hurt the application that needs it.

An app (the *plugin*) exchanges typed messages through shared memory with a *gateway* that speaks a network protocol;
the same app runs with both in one process or in two.

The layers. Each imports only those below it, which import-linter checks (`pyproject.toml` has the same list):

    __main__                        `python -m taktora_trio`
    cli                             the `taktora-trio` command
    chaos | replay                  faults on purpose, and what must hold | a recording, given to an app once more
    testing                         what the authors of apps and of connectors test with
    operate | scaffold              what an operator asks of a run | a new project's start
    recorder                        what a deployment does: followed, and kept in files
    declare                         channels, shown to others
    runners                         from a deployment to running processes: the two shapes, and each half
    host                            the app's half
    connectors                      the gateway's half: what each protocol needs; a package for each protocol
    vitals                          what a run says of itself, for who looks from outside
    executor | store | transport    items on triggers | the log on disk | shared memory: alone imports iceoryx2
    processes                       operating-system processes
    supervision                     restart policy, and what carries it out
    tracing                         the trace that a message belongs to
    channels | health               what an app declares | the health of a connector
    checks                          validators
    boottime | digest | errors | escaping | lean | opening | startpath | statefolder  a clock, hashes, errors, paths
    docstrings | later              libraries without docstrings | modules imported when they are first used

Public names are imported when they are first used, so that each process has only what it needs.

Public data classes are attrs classes, whose validators say what is wrong with a value. Those of which each message or
cycle makes one (or which travel as bytes) are msgspec structs, which are made in 0.06 us instead of 0.9. So are most
internal ones: a process that imports one takes 3 KB for it instead of 15.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from taktora_trio import startpath as startpath  # before anything else is imported

# isort: split
if TYPE_CHECKING:
    from taktora_trio.channels import ChannelDescriptor as ChannelDescriptor
    from taktora_trio.channels import Envelope as Envelope
    from taktora_trio.channels import Header as Header
    from taktora_trio.channels import Inbound as Inbound
    from taktora_trio.channels import Metadata as Metadata
    from taktora_trio.channels import Outbound as Outbound
    from taktora_trio.channels import Received as Received
    from taktora_trio.channels import Routing as Routing
    from taktora_trio.channels import Store as Store
    from taktora_trio.channels.codec import JsonCodec as JsonCodec
    from taktora_trio.channels.codec import MsgpackCodec as MsgpackCodec
    from taktora_trio.channels.codec import PayloadCodec as PayloadCodec
    from taktora_trio.channels.codec import RawCodec as RawCodec
    from taktora_trio.channels.exchange import Exchange as Exchange
    from taktora_trio.channels.zstd import ZstdCodec as ZstdCodec
    from taktora_trio.cli import main as main
    from taktora_trio.connectors.base import Connector as Connector
    from taktora_trio.connectors.base import GatewayChannels as GatewayChannels
    from taktora_trio.connectors.connection import Client as Client
    from taktora_trio.connectors.connection import ConnectFailed as ConnectFailed
    from taktora_trio.connectors.connection import Connection as Connection
    from taktora_trio.connectors.connection import ConnectionLost as ConnectionLost
    from taktora_trio.connectors.connection import ConnectRefused as ConnectRefused
    from taktora_trio.connectors.connection import Guarantee as Guarantee
    from taktora_trio.connectors.connection import Incoming as Incoming
    from taktora_trio.connectors.connection import OnDone as OnDone
    from taktora_trio.connectors.connection import OnMessage as OnMessage
    from taktora_trio.connectors.description import AddressParameter as AddressParameter
    from taktora_trio.connectors.description import ChannelDescription as ChannelDescription
    from taktora_trio.connectors.description import ServerDescription as ServerDescription
    from taktora_trio.connectors.finding import Finding as Finding
    from taktora_trio.connectors.gateway import ConnectorGateway as ConnectorGateway
    from taktora_trio.connectors.gateway import open_connector_gateway as open_connector_gateway
    from taktora_trio.connectors.mqtt import BrokerAddress as BrokerAddress
    from taktora_trio.connectors.mqtt import LastWill as LastWill
    from taktora_trio.connectors.mqtt import MqttConnector as MqttConnector
    from taktora_trio.connectors.mqtt import MqttOptions as MqttOptions
    from taktora_trio.connectors.mqtt import MqttRouting as MqttRouting
    from taktora_trio.connectors.options import ConnectorOptions as ConnectorOptions
    from taktora_trio.connectors.settings import Setting as Setting
    from taktora_trio.connectors.settings import SettingValue as SettingValue
    from taktora_trio.connectors.settings import SettingValues as SettingValues
    from taktora_trio.connectors.stream import LineSplitter as LineSplitter
    from taktora_trio.connectors.stream import StreamConnection as StreamConnection
    from taktora_trio.connectors.stream import connect_tcp as connect_tcp
    from taktora_trio.connectors.stream import read_line as read_line
    from taktora_trio.connectors.zenoh import ZenohConnector as ZenohConnector
    from taktora_trio.connectors.zenoh import ZenohOptions as ZenohOptions
    from taktora_trio.connectors.zenoh import ZenohRouting as ZenohRouting
    from taktora_trio.errors import BackPressure as BackPressure
    from taktora_trio.errors import CodecError as CodecError
    from taktora_trio.errors import ConfigError as ConfigError
    from taktora_trio.errors import ConnectorDown as ConnectorDown
    from taktora_trio.errors import ConnectorError as ConnectorError
    from taktora_trio.errors import DomainInUse as DomainInUse
    from taktora_trio.errors import Escalated as Escalated
    from taktora_trio.errors import MessageError as MessageError
    from taktora_trio.errors import MessageRefused as MessageRefused
    from taktora_trio.errors import NoSuchDomain as NoSuchDomain
    from taktora_trio.errors import PayloadOverflow as PayloadOverflow
    from taktora_trio.errors import RequestFailed as RequestFailed
    from taktora_trio.errors import RequestTimeout as RequestTimeout
    from taktora_trio.errors import ServiceMismatch as ServiceMismatch
    from taktora_trio.errors import StoreError as StoreError
    from taktora_trio.errors import TemporaryFailure as TemporaryFailure
    from taktora_trio.errors import TransportError as TransportError
    from taktora_trio.escaping import escaped as escaped
    from taktora_trio.health import Connecting as Connecting
    from taktora_trio.health import ConnectorHealth as ConnectorHealth
    from taktora_trio.health import Degraded as Degraded
    from taktora_trio.health import Down as Down
    from taktora_trio.health import Failure as Failure
    from taktora_trio.health import HealthEvent as HealthEvent
    from taktora_trio.health import HealthEvents as HealthEvents
    from taktora_trio.health import Up as Up
    from taktora_trio.host.asking.request import Request as Request
    from taktora_trio.host.asking.requester import Call as Call
    from taktora_trio.host.asking.requester import Requester as Requester
    from taktora_trio.host.asking.requester import RequesterStatistics as RequesterStatistics
    from taktora_trio.host.asking.responder import Responder as Responder
    from taktora_trio.host.asking.responder import ResponderStatistics as ResponderStatistics
    from taktora_trio.host.figures import HostStatistics as HostStatistics
    from taktora_trio.host.gateways import Gateways as Gateways
    from taktora_trio.host.host import ConnectorHost as ConnectorHost
    from taktora_trio.host.open import open_connector_host as open_connector_host
    from taktora_trio.host.open import open_watching_host as open_watching_host
    from taktora_trio.host.reader import ChannelReader as ChannelReader
    from taktora_trio.host.reader import ReaderStatistics as ReaderStatistics
    from taktora_trio.host.rejected import Rejected as Rejected
    from taktora_trio.host.writer import ChannelWriter as ChannelWriter
    from taktora_trio.host.writer import WriterStatistics as WriterStatistics
    from taktora_trio.processes.child.life_signs import LifeSigns as LifeSigns
    from taktora_trio.processes.parent.process import as_process as as_process
    from taktora_trio.processes.parent.process import spawn as spawn
    from taktora_trio.runners.deployment import Deployment as Deployment
    from taktora_trio.runners.hosting import open_deployment as open_deployment
    from taktora_trio.runners.loading import load_app as load_app
    from taktora_trio.runners.parts.app import run_app as run_app
    from taktora_trio.runners.parts.control import Control as Control
    from taktora_trio.runners.parts.flight import open_flight_recorder as open_flight_recorder
    from taktora_trio.runners.parts.gateway_task import GatewayTask as GatewayTask
    from taktora_trio.runners.parts.halves import Halves as Halves
    from taktora_trio.runners.parts.outlasting import open_outlasting as open_outlasting
    from taktora_trio.runners.parts.owning import open_domain as open_domain
    from taktora_trio.runners.parts.relay import Relay as Relay
    from taktora_trio.runners.parts.reload import Reload as Reload
    from taktora_trio.runners.parts.status import StatusLine as StatusLine
    from taktora_trio.runners.parts.status import open_life as open_life
    from taktora_trio.runners.run import run as run
    from taktora_trio.supervision.backoff import Backoff as Backoff
    from taktora_trio.supervision.policy import RestartPolicy as RestartPolicy
    from taktora_trio.supervision.supervisor import Exit as Exit
    from taktora_trio.supervision.supervisor import Supervisor as Supervisor
    from taktora_trio.supervision.task import as_task as as_task
    from taktora_trio.tracing.continuing import trace_context as trace_context
    from taktora_trio.transport.domain import Domain as Domain

# By module; a test compares this with the imports above, which are for type checkers.
_PUBLIC = {
    "channels": (
        "ChannelDescriptor",
        "Envelope",
        "Header",
        "Inbound",
        "Metadata",
        "Outbound",
        "Received",
        "Routing",
        "Store",
    ),
    "channels.codec": ("JsonCodec", "MsgpackCodec", "PayloadCodec", "RawCodec"),
    "channels.exchange": ("Exchange",),
    "channels.zstd": ("ZstdCodec",),
    "cli": ("main",),
    "connectors.base": ("Connector", "GatewayChannels"),
    "connectors.connection": (
        "Client",
        "ConnectFailed",
        "ConnectRefused",
        "Connection",
        "ConnectionLost",
        "Guarantee",
        "Incoming",
        "OnDone",
        "OnMessage",
    ),
    "connectors.description": ("AddressParameter", "ChannelDescription", "ServerDescription"),
    "connectors.finding": ("Finding",),
    "connectors.gateway": ("ConnectorGateway", "open_connector_gateway"),
    "connectors.mqtt": ("BrokerAddress", "LastWill", "MqttConnector", "MqttOptions", "MqttRouting"),
    "connectors.options": ("ConnectorOptions",),
    "connectors.settings": ("Setting", "SettingValue", "SettingValues"),
    "connectors.stream": ("LineSplitter", "StreamConnection", "connect_tcp", "read_line"),
    "connectors.zenoh": ("ZenohConnector", "ZenohOptions", "ZenohRouting"),
    "errors": (
        "BackPressure",
        "CodecError",
        "ConfigError",
        "ConnectorDown",
        "ConnectorError",
        "DomainInUse",
        "Escalated",
        "MessageError",
        "MessageRefused",
        "NoSuchDomain",
        "PayloadOverflow",
        "RequestFailed",
        "RequestTimeout",
        "ServiceMismatch",
        "StoreError",
        "TemporaryFailure",
        "TransportError",
    ),
    "escaping": ("escaped",),
    "health": ("Connecting", "ConnectorHealth", "Degraded", "Down", "Failure", "HealthEvent", "HealthEvents", "Up"),
    "host.asking.request": ("Request",),
    "host.asking.requester": ("Call", "Requester", "RequesterStatistics"),
    "host.asking.responder": ("Responder", "ResponderStatistics"),
    "host.figures": ("HostStatistics",),
    "host.gateways": ("Gateways",),
    "host.host": ("ConnectorHost",),
    "host.open": ("open_connector_host", "open_watching_host"),
    "host.reader": ("ChannelReader", "ReaderStatistics"),
    "host.rejected": ("Rejected",),
    "host.writer": ("ChannelWriter", "WriterStatistics"),
    "processes.child.life_signs": ("LifeSigns",),
    "processes.parent.process": ("as_process", "spawn"),
    "runners.deployment": ("Deployment",),
    "runners.hosting": ("open_deployment",),
    "runners.loading": ("load_app",),
    "runners.parts.app": ("run_app",),
    "runners.parts.control": ("Control",),
    "runners.parts.flight": ("open_flight_recorder",),
    "runners.parts.gateway_task": ("GatewayTask",),
    "runners.parts.halves": ("Halves",),
    "runners.parts.outlasting": ("open_outlasting",),
    "runners.parts.owning": ("open_domain",),
    "runners.parts.relay": ("Relay",),
    "runners.parts.reload": ("Reload",),
    "runners.parts.status": ("StatusLine", "open_life"),
    "runners.run": ("run",),
    "supervision.backoff": ("Backoff",),
    "supervision.policy": ("RestartPolicy",),
    "supervision.supervisor": ("Exit", "Supervisor"),
    "supervision.task": ("as_task",),
    "tracing.continuing": ("trace_context",),
    "transport.domain": ("Domain",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULES)

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
