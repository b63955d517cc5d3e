"""Deployments that a program opens by itself, and is the app of."""

from __future__ import annotations

from taktora_trio import Deployment, Inbound, MqttConnector, MqttRouting, Outbound

THERE = Outbound("there", str, MqttRouting("test/opened", qos=1))
BACK = Inbound("back", str, MqttRouting("test/opened", qos=1))

deployment = Deployment("opened", None, [MqttConnector([THERE, BACK])])
