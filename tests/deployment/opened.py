"""Deployments that a program opens by itself, and is the app of."""

from __future__ import annotations

import attrs

from taktora_trio import Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RestartPolicy

THERE = Outbound("there", str, MqttRouting("test/opened", qos=1))
BACK = Inbound("back", str, MqttRouting("test/opened", qos=1))

deployment = Deployment("opened", None, [MqttConnector([THERE, BACK])])
fragile = Deployment(
    "fragile",
    None,
    [MqttConnector([attrs.evolve(THERE), attrs.evolve(BACK)])],
    gateway_policy=RestartPolicy(restart="always", intensity=0),
)
