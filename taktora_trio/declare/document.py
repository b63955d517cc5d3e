"""The channels of a deployment as an AsyncAPI document, by which others write programs that talk with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.channels.exchange import reply_channel
from taktora_trio.channels.message_types import MessageField, fields_of
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.description import AddressParameter, ChannelDescription, ServerDescription
from taktora_trio.declare.schemas import PREFIX, Schema, make_schemas

__all__ = ["VERSION", "Info", "make_document"]

VERSION = "3.0.0"
_OPAQUE: Schema = {"type": "string", "format": "binary"}
_ACTIONS = {"out": "send", "in": "receive"}


class Info(msgspec.Struct, frozen=True):
    """What the document is about."""

    title: str
    version: str
    description: str = ""


def make_document(
    info: Info, connectors: Iterable[Connector], servers: Mapping[str, list[ServerDescription]]
) -> dict[str, Any]:
    """Return the document. `servers` are those to be named, by connector."""
    channels = [(connector, channel) for connector in connectors for channel in connector.channels]
    payloads, definitions = _payloads(channels)
    described = [connector.describe_channel(channel) for connector, channel in channels]
    names = {connector: _server_names(connector, found) for connector, found in servers.items()}
    document: dict[str, Any] = {
        "asyncapi": VERSION,
        "info": {key: value for key, value in msgspec.structs.asdict(info).items() if value},
        "servers": {
            name: _server(server)
            for connector, found in servers.items()
            for name, server in zip(names[connector], found, strict=True)
        },
        "channels": {
            _key(*one): _channel(*one, about, payload, names.get(one[0].name, []))
            for one, about, payload in zip(channels, described, payloads, strict=True)
        },
        "operations": {
            f"{_ACTIONS[channel.direction]}.{_key(connector, channel)}": _operation(connector, channel, about)
            for (connector, channel), about in zip(channels, described, strict=True)
        },
        "components": {"schemas": definitions} if definitions else {},
    }
    return {key: value for key, value in document.items() if value}


def _key(connector: Connector, channel: ChannelDescriptor[Any]) -> str:
    return f"{connector.name}.{channel.name}"


def _payloads(channels: list[tuple[Connector, ChannelDescriptor[Any]]]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schema of each channel's payload, and the definitions that they refer to."""
    found, definitions = make_schemas(
        [(channel.direction, channel.message_type) for connector, channel in channels if connector.codec.has_schema]
    )
    schemas = iter(found)
    return [
        _without_topic(next(schemas), definitions, connector.describe_channel(channel), channel)
        if connector.codec.has_schema
        else _OPAQUE
        for connector, channel in channels
    ], definitions


def _without_topic(
    payload: Schema, definitions: dict[str, Schema], about: ChannelDescription, channel: ChannelDescriptor[Any]
) -> Schema:
    """Return the schema of payloads that may lack the fields that are in the topic, where they are received."""
    fields = _fields(channel)
    names = {fields[one.field].encode_name for one in about.parameters.values() if one.field is not None}
    if channel.direction == "out" or not names:
        return payload
    whole = definitions[payload["$ref"].removeprefix(PREFIX)] if "$ref" in payload else payload
    if required := [name for name in whole.get("required", ()) if name not in names]:
        return {**whole, "required": required}
    return {key: value for key, value in whole.items() if key != "required"}


def _fields(channel: ChannelDescriptor[Any]) -> dict[str, MessageField]:
    """Return the fields of the messages by name; none if they have no fields."""
    return {field.name: field for field in fields_of(channel.message_type) or ()}


def _channel(
    connector: Connector,
    channel: ChannelDescriptor[Any],
    about: ChannelDescription,
    payload: Schema,
    servers: Iterable[str],
) -> dict[str, Any]:
    message: dict[str, Any] = {"contentType": connector.codec.content_type, "payload": payload}
    if connector.codec.encodings:
        message["x-content-encoding"] = [*connector.codec.encodings]
    if channel.max_metadata:
        message["headers"] = {
            "type": "object",
            "description": "Names and values of the sender's own.",
            "additionalProperties": {"type": "string"},
        }
    if about.message:
        message["bindings"] = {about.protocol: about.message}
    fields = _fields(channel)
    content = {
        "address": about.address,
        "messages": {"message": message},
        "parameters": {name: _parameter(one, fields.get(one.field or "")) for name, one in about.parameters.items()},
        "servers": [{"$ref": f"#/servers/{name}"} for name in servers],
    }
    return {
        **{key: value for key, value in content.items() if value},
        "x-max-payload": channel.max_payload,
        "x-max-topic": channel.topic_space,
        "x-max-metadata": channel.max_metadata,
        "x-window": channel.window,
    }


def _parameter(one: AddressParameter, field: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"description": one.description}
    if one.is_many:
        content["x-many-levels"] = True
    if isinstance(field and field.type, msgspec.inspect.EnumType):
        content["enum"] = [str(member.value) for member in field.type.cls]
    if field is not None:
        content["location"] = f"$message.payload#/{field.encode_name.replace('~', '~0').replace('/', '~1')}"
    return content


def _reply(connector: Connector, channel: ChannelDescriptor[Any]) -> dict[str, Any] | None:
    """Return where replies go to, if messages of this channel are the requests of an exchange."""
    if (replies := reply_channel(channel)) is None:
        return None
    for one in connector.channels:
        if one.name == replies and one.exchange == channel.exchange:
            at = f"#/channels/{_key(connector, one)}"
            return {"channel": {"$ref": at}, "messages": [{"$ref": f"{at}/messages/message"}]}
    return None


def _operation(connector: Connector, channel: ChannelDescriptor[Any], about: ChannelDescription) -> dict[str, Any]:
    at = f"#/channels/{_key(connector, channel)}"
    content: dict[str, Any] = {
        "action": _ACTIONS[channel.direction],
        "channel": {"$ref": at},
        "messages": [{"$ref": f"{at}/messages/message"}],
    }
    if (reply := _reply(connector, channel)) is not None:
        content["reply"] = reply
    if about.operation:
        content["bindings"] = {about.protocol: about.operation}
    return content


def _server_names(connector: str, servers: Sequence[ServerDescription]) -> list[str]:
    return [connector if index == 0 else f"{connector}-{index + 1}" for index in range(len(servers))]


def _server(server: ServerDescription) -> dict[str, Any]:
    content = {
        "host": server.host,
        "pathname": server.path,
        "protocol": server.protocol,
        "protocolVersion": server.protocol_version,
        "bindings": {server.binding: server.bindings} if server.bindings else {},
    }
    return {key: value for key, value in content.items() if value}
