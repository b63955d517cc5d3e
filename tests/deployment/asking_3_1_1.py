"""An exchange with a version of MQTT that has no request and response, for test_asking.py."""

from __future__ import annotations

from taktora_trio import Deployment, MqttConnector
from tests.deployment.asking_apps import WORK, respond

deployment = Deployment("too-old", respond, [MqttConnector(WORK.for_responder)])
