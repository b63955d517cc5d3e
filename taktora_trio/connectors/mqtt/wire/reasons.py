"""Reason codes and their names (MQTT 5, section 2.4; MQTT 3.1.1, sections 3.2.2.3 and 3.9.3)."""

from __future__ import annotations

__all__ = ["CONNECT_RETURN_CODES", "PERMANENT", "TAKEN_OVER", "reason_name"]

_NAMES = {
    0x80: "Unspecified error",
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x83: "Implementation specific error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8A: "Banned",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic filter invalid",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x92: "Packet identifier not found",
    0x93: "Receive maximum exceeded",
    0x94: "Topic alias invalid",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9E: "Shared subscriptions not supported",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
    0xA1: "Subscription identifiers not supported",
    0xA2: "Wildcard subscriptions not supported",
}

CONNECT_RETURN_CODES = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
"""For each CONNACK return code of MQTT 3.1.1 the reason code of MQTT 5 that means the same."""

PERMANENT = frozenset({0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8C, 0x90, 0x95, 0x99, 0x9A, 0x9B})
"""CONNACK reasons that each attempt meets until somebody changes something, here or at the broker.

All others are temporary (section 3.2.2.2): a server that is busy, unavailable or short of a quota, a connection rate, a
server that has moved (only the operator chooses the address), and a ban, which brokers lift after minutes."""

TAKEN_OVER = 0x8E
"""In a DISCONNECT: another client has connected with the same client id (MQTT-3.1.4-3)."""


def reason_name(code: int) -> str:
    """Return the name of a reason code of MQTT 5, or its number if MQTT 5 has no such code."""
    if code == 0:
        return "Success"
    return _NAMES.get(code, f"reason 0x{code:02x}")
