"""The channels of a deployment as a table, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taktora_trio.channels import ChannelDescriptor, Inbound
from taktora_trio.connectors.base import Connector
from taktora_trio.declare.files import encoded

__all__ = ["as_json", "as_table"]


def as_table(connectors: Iterable[Connector]) -> str:
    """Return a line for each channel, with a heading. The columns of a protocol are between the others."""
    rows = [_cells(connector, channel) for connector in connectors for channel in connector.channels]
    headings = [*dict.fromkeys(heading for row in rows for heading in row)]
    headings.sort(key=lambda heading: heading in _LAST)  # else a second protocol's would come behind them
    lines = [headings, *([row.get(heading, "") for heading in headings] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    texts = [
        "  ".join(
            cell.rjust(width) if heading in _LAST else cell.ljust(width)
            for heading, cell, width in zip(headings, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])


def as_json(connectors: Iterable[Connector]) -> bytes:
    """Return a list of objects, one for each channel."""
    content = [_object(connector, channel) for connector in connectors for channel in connector.channels]
    return encoded(content, "json")


_LAST = ("max payload", "window")


def _cells(connector: Connector, channel: ChannelDescriptor[Any]) -> dict[str, str]:
    described = connector.describe_channel(channel)
    return {
        "channel": channel.name,
        "direction": channel.direction,
        "connector": connector.name,
        "topic": described.topic,
        "type": _type_name(channel.message_type, whole=False),
        **{heading: _cell(value) for heading, value in described.properties.items()},
        "max payload": f"{channel.max_payload:,}",
        "window": f"{channel.window:,}",
    }


def _cell(value: object) -> str:
    return ("yes" if value else "") if isinstance(value, bool) else str(value)


def _object(connector: Connector, channel: ChannelDescriptor[Any]) -> dict[str, object]:
    described = connector.describe_channel(channel)
    return {
        "name": channel.name,
        "direction": channel.direction,
        "connector": connector.name,
        "topic": described.topic,
        "type": _type_name(channel.message_type, whole=True),
        "codec": connector.codec.name,
        **{heading.lower(): value for heading, value in described.properties.items()},
        "max_payload": channel.max_payload,
        "max_topic": channel.topic_space,
        "max_metadata": channel.max_metadata,
        "window": channel.window,
        **({"acknowledge": channel.acknowledge} if isinstance(channel, Inbound) else {}),
    }


def _type_name(kind: Any, *, whole: bool) -> str:
    if not isinstance(kind, type) or hasattr(kind, "__origin__"):
        return str(kind).replace("typing.", "")
    return f"{kind.__module__}.{kind.__qualname__}" if whole and kind.__module__ != "builtins" else kind.__qualname__
