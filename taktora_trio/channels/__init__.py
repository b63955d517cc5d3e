"""What an app declares: channels, where their messages go, and how values become bytes. Nothing of a protocol."""

from taktora_trio.channels.descriptor import (
    ChannelDescriptor,
    Envelope,
    Header,
    Inbound,
    Metadata,
    Outbound,
    Received,
    Routing,
    check_name,
)

__all__ = [
    "ChannelDescriptor",
    "Envelope",
    "Header",
    "Inbound",
    "Metadata",
    "Outbound",
    "Received",
    "Routing",
    "check_name",
]
