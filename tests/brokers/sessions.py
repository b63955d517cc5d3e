"""The sessions that the suites against brokers run with: the one place that names them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from taktora_trio.connectors.mqtt.options import BrokerAddress, MqttOptions

__all__ = ["SESSIONS", "Kind", "each_session"]


@attrs.frozen
class Kind:
    """One way for a gateway to talk MQTT."""

    name: str
    fields: dict[str, Any]
    """Of `MqttOptions`."""
    downgrades: bool = False
    """True if it answers `Unsupported protocol version` by another try with MQTT 3.1 (paho does, unasked)."""

    lasting_qos: int = 2
    """The highest QoS that it can do in a persistent session."""
    pace: float = 1000
    """Messages a second that it carries both ways at once on a busy machine, with something left to catch up."""

    @property
    def level(self) -> int:
        """Of the protocol (section 3.1.2.2)."""
        return 5 if self.fields.get("protocol") == "5" else 4

    def options(self, broker: str | BrokerAddress, **more: Any) -> MqttOptions:
        return MqttOptions(broker=broker, **{**self.fields, **more})

    def __str__(self) -> str:
        return self.name


SESSIONS = (
    Kind("native", {"session": "native"}),
    Kind("native-5", {"session": "native", "protocol": "5"}),
    Kind("aiomqtt", {"session": "aiomqtt"}, downgrades=True, lasting_qos=1, pace=200),
)

each_session = pytest.mark.parametrize("session", SESSIONS, ids=str)
