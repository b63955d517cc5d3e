"""One connection to a broker, behind one interface. The protocol stack is imported below here and nowhere else."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from taktora_trio.mqtt.options import MqttOptions
from taktora_trio.mqtt.sessions.session import OnMessage, Session

__all__ = ["open_session"]


def open_session(options: MqttOptions, on_message: OnMessage) -> AbstractAsyncContextManager[Session]:
    """Connect by the implementation that the options name; see `Session` for what it promises.

    Raises `ConnectFailed` (try again later) or `ConnectRefused` (trying again would end the same way).
    """
    if options.session == "memory":
        from taktora_trio.mqtt.sessions.memory import open_memory_session

        return open_memory_session(options, on_message)
    from taktora_trio.mqtt.sessions.aiomqtt import open_aiomqtt_session

    return open_aiomqtt_session(options, on_message)
