"""The Zenoh connector. An app imports what it declares, the gateway the rest; the library is in `native/` alone.

What an app declares:

    connector.py      ZenohConnector
    routing.py        ZenohRouting: key expression, acknowledgement, quality of service
    options.py        ZenohOptions: how to join the network
    endpoints.py      where nodes listen, checked
    keys.py           key expressions: valid, canonical, matching, including

What the command asks it for:

    settings.py       its options of the command line
    checking.py       the files that its options name
    asking.py         asks the library by a process of its own, asked.py
    preflight.py      whether somebody listens at the endpoints
    diagnosis.py      what `taktora-trio doctor` finds out about where it joins
    describing.py     what it says of its channels to others

In the gateway:

    client.py         ZenohClient: Zenoh's side of a gateway, over all its connections
    membership.py     the gateway's node, which may outlast its connections
    connection.py     ZenohConnection: one of them
    keytree.py        values by key expression, of which those that match a key are found quickly
    lasting.py        what a gateway knows over all its connections, made of the next five
    latched.py        the last values of latched outbound channels, for whoever asks
    retained.py       what others keep of the keys of latched inbound channels
    presence.py       liveliness tokens that inbound channels watch
    recovery.py       samples of publishers that number and keep them
    missed.py         inbound messages that are lost for good, counted and shown
    metadata.py       metadata and correlation ids, as an encoding and an attachment
    attachment.py     what travels beside a payload: pairs of a name and bytes
    keeping.py        a dictionary in memory that outlives a gateway
    native/           the library's node and session
    handover.py       from the library's threads to trio's
    sender.py         from trio's thread to one that may have to wait
    link.py           the socket of a link
    configuring.py    the library's configuration, made of the options
    embedded/         a router on loopback for those who have none
    session.py        a node of the network and a session on it: the interface of `native` and `memory`
"""

from taktora_trio.connectors.zenoh.connector import ZenohConnector
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.routing import ZenohRouting

__all__ = ["ZenohConnector", "ZenohOptions", "ZenohRouting"]
