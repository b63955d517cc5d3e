"""What a gateway says of its channels: figures that exist anyway, copied when somebody writes them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_name
from taktora_trio.escaping import escaped
from taktora_trio.transport.trunk import Trunk
from taktora_trio.vitals.model import Channel

if TYPE_CHECKING:
    from taktora_trio.channels import ChannelDescriptor
    from taktora_trio.connectors.bridge import Bridge
    from taktora_trio.connectors.dead_letters.letters import DeadLetters
    from taktora_trio.connectors.storing.inbound import StoredInbox
    from taktora_trio.connectors.storing.keeper import StoreKeeper

__all__ = ["channel_figures", "gateway_figures"]

_TEXT = 120  # characters of an address


def channel_figures(connector: Connector, channel: ChannelDescriptor[Any], trunk: Trunk, **more: Any) -> Channel:
    """Return what either half can tell of a channel, and what this one has `more`."""
    counts = trunk.counts(channel_name(connector, channel))
    return Channel(
        connector=connector.name,
        name=channel.name,
        direction=channel.direction,
        address=escaped(channel.routing.address, _TEXT),
        window=channel.window,
        messages=counts.sent,
        payload_bytes=counts.bytes,
        done=counts.done,
        acknowledged=counts.acknowledged if channel.direction == "out" else None,
        in_use=counts.in_use,
        age=counts.age,
        oldest=counts.oldest,
        latency=counts.latency,
        **more,
    )


def gateway_figures(
    connector: Connector,
    channel: ChannelDescriptor[Any],
    trunk: Trunk,
    bridge: Bridge,
    keeper: StoreKeeper | None,
    stored_inbox: StoredInbox | None,
    dead_letters: DeadLetters | None,
) -> Channel:
    """Return what the gateway can tell of a channel."""
    name = channel.name
    if channel.direction == "out":
        outbox = bridge.outboxes[name]
        source = None if keeper is None else keeper.sources.get(name)
        return channel_figures(
            connector,
            channel,
            trunk,
            backlog=outbox.waiting,
            discarded=outbox.discarded + outbox.set_aside_count + (0 if source is None else source.dropped),
            expired=outbox.expired,
            refused=outbox.refused,
            **(_stored(name, keeper) if source is not None else {}),
        )
    inboxes = [bridge.inbox]
    if stored_inbox is not None and name in stored_inbox.sinks:
        inboxes.append(stored_inbox.inbox)
    return channel_figures(
        connector,
        channel,
        trunk,
        backlog=sum(inbox.waiting(name) for inbox in inboxes),
        discarded=sum(inbox.discarded_of(name) for inbox in inboxes),
        dead_letters=None if dead_letters is None else dead_letters.count_of(connector.name, name),
        **(_stored(name, stored_inbox) if len(inboxes) > 1 else {}),
    )


def _stored(channel: str, keeper: StoreKeeper | StoredInbox | None) -> dict[str, Any]:
    """Return how full the log is that a channel is in; nothing while it is closed."""
    log = None if keeper is None else keeper.log
    if keeper is None or log is None:
        return {}
    return {
        "store_bytes": log.used,
        "store_limit": log.capacity,
        "store_full_in": None if keeper.filling is None else keeper.filling.full_in,
        "store_messages": log.channel(channel).count,
    }
