"""Connections to a broker behind one interface, `Session`. Only these modules import a protocol stack or a network."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire.limits import NO_LIMITS
from taktora_trio.connectors.mqtt.wire.message import OnMessage

__all__ = ["open_session"]


def open_session(
    options: MqttOptions,
    on_message: OnMessage,
    state: ClientState | None = None,
    max_payload: int = NO_LIMITS.largest_length,
) -> AbstractAsyncContextManager[Session]:
    """Connect by the implementation that the options name. `Session` says what each of them promises.

    Give the same `state` to each connection of one client. A message with more than `max_payload` bytes may come
    without its payload (`Message.skipped`). `options.persistent=None` means not persistent.

    Raises `ConnectFailed` (trying again may help) or `ConnectRefused` (somebody must change something first).
    """
    state = ClientState() if state is None else state
    if options.session == "memory":
        from taktora_trio.connectors.mqtt.sessions.memory import open_memory_session

        return open_memory_session(options, on_message, state.session)
    if options.session == "aiomqtt":
        from taktora_trio.connectors.mqtt.sessions.aiomqtt import open_aiomqtt_session

        return open_aiomqtt_session(options, on_message, state.session)
    from taktora_trio.connectors.mqtt.sessions.native import open_native_session

    return open_native_session(options, on_message, state, max_payload)
