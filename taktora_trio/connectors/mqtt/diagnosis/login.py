"""The login as a guest, and why it fails."""

from __future__ import annotations

from taktora_trio.connectors.finding import Finding, fail
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused
from taktora_trio.escaping import escaped

__all__ = ["refused", "unanswered"]

_VERSION, _CLIENT_ID, _LOGIN, _NOT_ALLOWED, _BANNED = 0x84, 0x85, 0x86, 0x87, 0x8A
_IS_IT_MQTT = "check host and port, and that the scheme is the port's: mqtt:// 1883, mqtts:// 8883, ws://, wss://"


def refused(options: MqttOptions, error: ConnectRefused) -> Finding:
    """Return what the broker's refusal comes from."""
    user = options.broker.username
    who = f"user {escaped(user)!r}" if user else "a client without a user name"
    given = "with a password" if options.broker.password is not None else "without a password"
    remedy = {
        _VERSION: f"the broker does not take MQTT {options.protocol}: set MqttOptions(protocol=...) to one that it has",
        _CLIENT_ID: "this guest has a client id by chance, and the broker may only know some: try the run itself",
        _BANNED: "wait for some minutes, or lift the ban at the broker",
    }.get(error.code, "check user and password (--broker mqtt://USER@HOST, --broker-password-file), and the broker's")
    return fail("login", f"{escaped(str(error), 300)}: {who}, {given}", remedy)


def unanswered(options: MqttOptions, error: ConnectFailed) -> Finding:
    """Return why there was no answer that counts."""
    text = escaped(str(error), 400)
    if error.answered:
        return fail(
            "login", text, "the broker has refused this for now: look at its load and its limits, and try again"
        )
    if "rules of MQTT" in text or "websocket" in text:
        return fail("login", f"whatever listens there speaks no MQTT: {text}", _IS_IT_MQTT)
    if error.overdue:
        return fail("login", text, f"the broker hangs, or something else listens there: {_IS_IT_MQTT}")
    if options.broker.tls and options.cert_file is None:  # which TLS 1.3 says, if at all, behind the handshake
        return fail(
            "login", text, "a broker ends it so that asks for a client's certificate: set cert-file and key-file"
        )
    return fail("login", text, f"the broker's log says why; {_IS_IT_MQTT}")
