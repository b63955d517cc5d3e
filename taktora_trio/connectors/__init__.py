"""Connectors: the gateway's half. What every protocol needs is here, once; each protocol has a package.

gateway        ConnectorGateway: opens its ends of the channels, and serves a bridge for each connector
bridge         one connector in a gateway: connects again and again, drains at a stop, shows the health
trial          publishes one by one, to find the message at which connections end, and sets it aside
storing        outbound and inbound channels with a log on disk
outbox         one outbound channel: a ledger of what is in flight, by sequence number; what is lost is published again
sending_again  dead letters that an operator has marked go to the app once more
inbox          the inbound channels: a bounded backlog, acknowledgements when the app is done with a message
figures        what a gateway says of its channels, for those who look from outside
plan           the services in shared memory of a connector's channels
stream         for protocols over a byte stream: connect_tcp, LineSplitter, StreamConnection
base           Connector: what an app declares
dead_letters   what the app could not get done with, on disk
reconnect      when to try again, and what to say: pure
examining      steps of `taktora-trio doctor` that are the same for every protocol
peer           MemoryPeer: the other side within this process, for the tests of an app
connection     Client, Connection: what a protocol implements
poison         which message is guilty: pure
expiry         what is left of a message's life: pure
options        ConnectorOptions: what the options of every protocol have
retry          Retry: the next attempt to connect, and when
settings       hooks of a protocol that a run calls: options of the command line, a preflight, and so on
certificates   the files of TLS, made into a context
sockets        the addresses behind a name, a connection to one of them, and why there is none
description    what a protocol says of its channels, for an AsyncAPI document
source         Source: where an outbox takes messages from, and whom it tells what became of them
supply         a peer of the run's own, for trying things out: a program on loopback
traced         TracedSource: each message of a trace is published in a span of it
finding        Finding: what `taktora-trio doctor` has found
pump           the one task that moves messages, for all channels of a connector, each in turn

Each imports only from those below it, and generic code imports no protocol.
"""
