"""One connection to a broker, behind one interface. The protocol stack is imported below here and nowhere else."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire.message import OnMessage

__all__ = ["open_session"]

_LARGEST = 268_435_455


def open_session(
    options: MqttOptions, on_message: OnMessage, state: ClientState | None = None, max_payload: int = _LARGEST
) -> AbstractAsyncContextManager[Session]:
    """Connect by the implementation that the options name; see `Session` for what it promises.

    `state` is the same for each connection of one client. What comes with more than `max_payload` bytes may be handed
    on without its payload (`Message.skipped`). `options.persistent` of `None` is no.

    Raises `ConnectFailed` (try again later) or `ConnectRefused` (until somebody changes something).
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
