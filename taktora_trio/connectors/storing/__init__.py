"""Storing: messages of a connector kept on disk, on their way out or in. It knows no protocol.

keeper       one connector's log on disk for outbound channels, kept open whatever the disk does
outbound     StoredSource: one outbound channel with a log between shared memory and its outbox
inbound      StoredInbox: inbound channels with a log on disk; sink: where their messages go to that
opening      a connector's log, as its policy says, and what people are told of it
stores       which channels are kept on disk, how, and where
begun        how far a channel whose messages come once was begun to be published, on disk
unappended   what was taken and is not in the log: pure
message      a message of an outbound channel as it lies on disk
backlog      which message of an outbound channel goes next, and whether it is in memory or on disk: pure
catching_up  which channel may publish of its backlog now: pure
filling      how full a store is, and when it will be: pure

Each imports only from those below it.
"""
