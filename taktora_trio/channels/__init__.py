"""Declarations of an app: channels, where their messages go, and how values become bytes. Nothing of a protocol.

descriptor.py  ChannelDescriptor, Outbound, Inbound
exchange.py    Exchange: requests and their replies
signs.py       what a reply says about itself: interim, or a failure
routing.py     Routing, the base of each protocol's own
templates.py   topics with fields of the message in them, as each protocol writes them
store.py       Store: how outbound messages are kept on disk
message.py     Header, Metadata, Received, Envelope
codec.py       between values and payload bytes
message_types.py  what message types are made of
models.py      models of pydantic
zstd.py        a codec that compresses what another one makes
"""

from taktora_trio.channels.descriptor import ChannelDescriptor, Inbound, Outbound, check_name
from taktora_trio.channels.message import Envelope, Header, Metadata, Received
from taktora_trio.channels.routing import Routing
from taktora_trio.channels.store import Store

__all__ = [
    "ChannelDescriptor",
    "Envelope",
    "Header",
    "Inbound",
    "Metadata",
    "Outbound",
    "Received",
    "Routing",
    "Store",
    "check_name",
]
