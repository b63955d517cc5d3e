from __future__ import annotations

from typing import Any

import pytest

from taktora_trio import ConfigError, MqttRouting, Routing


def test_defaults() -> None:
    routing = MqttRouting("plant/temperature")
    assert isinstance(routing, Routing)
    assert (routing.qos, routing.retain, routing.address, routing.is_pattern) == (0, False, "plant/temperature", False)


@pytest.mark.parametrize("topic", ["plant/+", "plant/#", "#", "+/temperature"])
def test_a_pattern_is_for_inbound_channels(topic: str) -> None:
    routing = MqttRouting(topic, qos=2)
    assert routing.is_pattern
    routing.check("in")
    with pytest.raises(ConfigError, match="has a wildcard"):
        routing.check("out")


def test_retain_is_for_outbound_channels() -> None:
    routing = MqttRouting("plant/temperature", retain=True)
    routing.check("out")
    with pytest.raises(ConfigError, match="retain is for outbound channels"):
        routing.check("in")


@pytest.mark.parametrize("direction", ["in", "out"])
def test_an_impossible_topic_fits_no_direction(direction: Any) -> None:
    with pytest.raises(ConfigError, match="at least one character"):
        MqttRouting("").check(direction)


@pytest.mark.parametrize("qos", [-1, 3, 1.5, "1", None, True])
def test_qos_is_0_1_or_2(qos: Any) -> None:
    with pytest.raises(ConfigError, match=f"QoS of 'plant' is {qos!r}; it must be 0, 1 or 2"):
        MqttRouting("plant", qos)
