"""What a broker announces, beside what the channels of a connector need. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS, BrokerLimits
from taktora_trio.escaping import escaped

__all__ = ["compare", "subscriptions"]

_PROPERTIES = 64  # bytes, or fewer, beside topic, metadata and payload of a PUBLISH


def compare(
    limits: BrokerLimits, options: MqttOptions, channels: Sequence[ChannelDescriptor[Any]]
) -> Iterator[Finding]:
    """Yield what the broker announces, and each channel that it is too little for."""
    yield ok("limits", _announced(limits))
    for channel in channels:
        routing = cast(MqttRouting, channel.routing)
        if channel.direction == "out":
            largest = channel.max_payload + channel.max_metadata + _PROPERTIES
            largest += channel.topic_space or len(channel.routing.address.encode())
            if refusal := limits.refusal(0, routing.qos, routing.retain):
                change = "declare another QoS" if routing.qos > limits.maximum_qos else "declare it without retain"
                yield fail("limits", f"channel {channel.name!r}: {refusal}", f"{change}, or allow it at the broker")
            elif largest > limits.maximum_packet_size:
                yield warn(
                    "limits",
                    f"channel {channel.name!r} may send {channel.max_payload:,} bytes, and the broker takes packets of"
                    f" {limits.maximum_packet_size:,}: larger messages are refused",
                    "lower its max_payload, or raise the broker's limit",
                )
        elif refusal := limits.subscription_refusal(routing.subscription):
            yield fail(
                "limits", f"channel {channel.name!r}: {refusal}", "subscribe otherwise, or allow it at the broker"
            )
    if options.presence is not None and options.will is None and not limits.retain_available:
        yield warn(
            "limits",
            "the broker keeps no retained messages, and so no presence",
            "allow them at the broker, or set MqttOptions(presence=None)",
        )
    if options.persistent and (limits.session_expiry or options.session_expiry) < options.session_expiry:
        yield warn(
            "limits",
            f"the broker keeps the session for {limits.session_expiry} s, and not for {options.session_expiry} s",
            "raise the broker's limit, or an outage that is longer loses what arrives meanwhile",
        )


def _announced(limits: BrokerLimits) -> str:
    lacks = [
        name
        for name, is_there in (
            ("retained messages", limits.retain_available),
            ("wildcards", limits.wildcards_available),
            ("shared subscriptions", limits.shared_available),
        )
        if not is_there
    ]
    size = limits.maximum_packet_size
    return "; ".join(
        (
            f"QoS up to {limits.maximum_qos}",
            "packets of any size" if size == NO_LIMITS.maximum_packet_size else f"packets up to {size:,} bytes",
            f"{limits.receive_maximum:,} in flight",
            f"keepalive {limits.keepalive or 'as asked for'}",
            f"no {', no '.join(lacks)}" if lacks else "retained messages, wildcards, shared subscriptions",
        )
    )


def subscriptions(
    wanted: Mapping[str, int], refused: Mapping[str, str], granted: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield what the broker says of the subscriptions that a gateway would make."""
    for topic_filter, reason in refused.items():
        yield fail(
            "subscribe",
            f"{escaped(topic_filter)!r} is refused: {escaped(reason)}",
            "allow this user to subscribe to it, at the broker",
        )
    for topic_filter, qos in wanted.items():
        if granted.get(topic_filter, qos) < qos:
            yield warn(
                "subscribe",
                f"{escaped(topic_filter)!r} is granted at QoS {granted[topic_filter]}, and not {qos}",
                "declare that QoS, or allow the other one at the broker",
            )
    taken = len(wanted) - len(refused)
    if wanted and taken:
        yield ok("subscribe", f"{taken} of {len(wanted)} filters are allowed")
