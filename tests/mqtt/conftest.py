"""A bridge's other side: sessions that are faked, or a broker in memory."""

from __future__ import annotations

import uuid

import pytest

from taktora_trio.connectors.mqtt import client
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.sessions.session import Session
from tests.mqtt.rig import Fake, FakeBroker, Memory


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake broker in place of every session."""

    def make(*answers: Session | Exception | None) -> FakeBroker:
        broker = FakeBroker(answers)
        monkeypatch.setattr(client, "open_session", broker.open_session)
        return broker

    return make


@pytest.fixture
def memory() -> Memory:
    """A broker in memory that nobody else uses, and the options to reach it."""
    host = f"{uuid.uuid4().hex}.example"
    return MemoryBroker.at(host, 1883), {"session": "memory", "broker": f"mqtt://{host}"}
