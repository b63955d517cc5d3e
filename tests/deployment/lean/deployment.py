"""What both halves share: the channels, the connector, and the app's name."""

from __future__ import annotations

from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound
from tests.deployment.lean import recording

__all__ = ["recording"]

DONE = Outbound("done", str, MqttRouting("test/lean", qos=1))


def _declare(app: str) -> Deployment:
    return Deployment("lean", f"tests.deployment.lean.{app}", [MqttConnector([DONE])])


needs_too_much = _declare("app:main")
no_module = _declare("ap:main")
no_function = _declare("good_app:man")
good = _declare("good_app:main")
