"""Connectors: the gateway's half. What every protocol needs is here, once; each protocol has a package.

gateway        ConnectorGateway: opens its ends of the channels, and serves a bridge for each connector
bridge         one connector in a gateway: connects again and again, drains at a stop, shows the health
trial          publishes one by one, to find the message at which connections end, and sets it aside
outbox         one outbound channel: a ledger of what is in flight, by sequence number; what is lost is published again
store_keeper   one connector's log on disk for outbound channels, kept open whatever the disk does
stored         one outbound channel with a log between shared memory and its outbox
sending_again  dead letters that an operator has marked go to the app once more
stored_inbox   inbound channels with a log on disk; stored_sink: where their messages go to that
inbox          the inbound channels: a bounded backlog, acknowledgements when the app is done with a message
dead_letters   puts what the app could not get done with into an SQLite file (dead_letter_file); dead_letter: one
stream         for protocols over a byte stream: connect_tcp, LineSplitter, StreamConnection
reconnect      when to try again, and what to say: pure
poison         which message is guilty: pure
expiry         what is left of a message's life: pure
backlog        which message of a stored channel goes next, and whether it is in memory or on disk: pure
catching_up    which channel may publish of its backlog now: pure
filling        how full a store is, and when it will be: pure
stored_message a message as it lies on disk
storing        which channels are kept on disk, how, and where
plan           the services in shared memory of a connector's channels
base           Connector: what an app declares
connection     Client, Connection: what a protocol implements
source         Source: where an outbox takes messages from, and whom it tells what became of them
settings       hooks of a protocol that a run calls: options of the command line, a preflight, and so on
options        ConnectorOptions: what the options of every protocol have

Each imports only from those below it, and generic code imports no protocol.
"""
