"""The Zenoh connector. An app imports what it declares, the gateway the rest; the library is in `native/` alone, and in
the processes of `probe/` and `embedded/`.

What an app declares:

    connector.py        ZenohConnector
    routing.py          ZenohRouting: key expression, acknowledgement, quality of service
    options.py          ZenohOptions: how to join the network
    endpoints.py        where nodes listen, checked
    keys.py             key expressions: valid, canonical, matching, including

What the command asks it for:

    settings.py         its options of the command line
    checking.py         the files that its options name
    preflight.py        whether somebody listens at the endpoints
    diagnosis.py        what `taktora-trio doctor` finds out about where it joins
    probe/              a short process that asks the library what only it knows
    describing.py       what it says of its channels to others
    events.py           what each of its log lines means, and what to do
    embedded/           a router on loopback for those who have none

What the tests of an app ask it for:

    peer.py             the networks within the test's process
    guest.py            whoever is on the other side of the connector
    guest_exchanges.py  the guest's part in requests and replies

In the gateway:

    client.py           ZenohClient: Zenoh's side of a gateway, over all its connections
    membership.py       the gateway's node, which may outlast its connections
    connection.py       ZenohConnection: one of them
    queries/            what is sent as queries: acknowledged messages, requests and replies
    lasting/            what is known over all connections: last values, tokens, publishers
    metadata.py         metadata and correlation ids, as an encoding and an attachment
    attachment.py       what travels beside a payload: pairs of a name and bytes
    keytree.py          values by key expression, of which those that match a key are found quickly
    configuring.py      the library's configuration, made of the options

The network:

    session.py          a node of the network and a session on it: the interface of `native` and `memory`
    nodes.py            opens a node of either
    native/             the library's node and session
    memory/             a network within this process, for tests
    handover.py         from the library's threads to trio's; in memory, to a later turn of the loop
"""

from taktora_trio.connectors.zenoh.connector import ZenohConnector
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.routing import ZenohRouting

__all__ = ["ZenohConnector", "ZenohOptions", "ZenohRouting"]
