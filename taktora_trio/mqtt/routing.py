"""Where a channel's messages go to or come from in MQTT."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from taktora_trio.channel import Routing
from taktora_trio.errors import ConfigError
from taktora_trio.mqtt.topics import check_filter, check_topic, is_pattern

__all__ = ["MqttRouting"]


def _check_qos(instance: Any, attribute: attrs.Attribute[int], value: object) -> None:
    if value not in (0, 1, 2) or isinstance(value, bool):
        raise ConfigError(f"QoS of {instance.topic!r} is {value!r}; it must be 0, 1 or 2")


@attrs.frozen
class MqttRouting(Routing):
    """A topic (for an outbound channel) or a topic filter with `+` and `#` (for an inbound one)."""

    topic: str
    qos: Literal[0, 1, 2] = attrs.field(default=0, validator=_check_qos)
    """0 at most once, 1 at least once, 2 exactly once (MQTT 3.1.1, section 4.3)."""
    retain: bool = False
    """Outbound only: the broker keeps the last message for later subscribers (section 3.3.1.3)."""

    @property
    def address(self) -> str:
        return self.topic

    @property
    def subscription(self) -> str:
        """The filter that the broker is asked for, of an inbound channel; `address` is what it stands for locally."""
        return self.topic

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.topic)

    def check(self, direction: Literal["out", "in"]) -> None:
        if direction == "out":
            check_topic(self.topic)
            return
        check_filter(self.topic)
        if self.retain:
            raise ConfigError(f"topic filter {self.topic!r}: retain is for outbound channels")
