"""Compressed payloads between an app and a foreign client that knows nothing of it, in both shapes."""

from __future__ import annotations

import json
import signal
import sys

import pytest
import trio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_run
from tests.deployment.foreign import open_client
from tests.deployment.zstd_apps import MAX_PAYLOAD
from tests.mosquitto import Mosquitto

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

VERSIONS = {"new": 5, "old": 4}  # as CONNECT has them


def user_properties(*pairs: tuple[str, str]) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = list(pairs)
    return properties


@pytest.mark.parametrize(("name", "mode"), [("new", MODES[0]), ("new", MODES[1]), ("old", MODES[1])])
async def test_a_foreign_client_may_compress_or_not(name: str, mode: str, broker: Mosquitto, domain: Domain) -> None:
    small, large = "small", "large " * 1000
    plain = json.dumps(large).encode()
    with trio.fail_after(30):
        async with (
            open_run(f"tests.deployment.zstd_apps:{name}", mode, broker, domain) as run,
            open_client(broker.port, VERSIONS[name], "zstd/answers") as (client, answers),
        ):
            await run.until_event("health-up")
            told = user_properties(("batch", "7")) if name == "new" else None
            client.publish("zstd/asked", json.dumps(small), 1, properties=told)
            answer = await answers.receive()
            assert answer.payload == b'"small"'
            if name == "new":
                assert answer.properties.UserProperty == [("batch", "7")]
            # Corrupt, a bomb, and one that is too large as it is: each is rejected, and the next is read.
            client.publish("zstd/asked", zstd.compress(plain)[:-4], 1)
            client.publish("zstd/asked", zstd.compress(b'"%s"' % (b"x" * MAX_PAYLOAD * 100)), 1)
            for payload in (plain, zstd.compress(plain)):
                client.publish("zstd/asked", payload, 1, properties=told)
                answer = await answers.receive()
                assert len(answer.payload) < 200
                assert zstd.decompress(answer.payload) == plain
                if name == "new":
                    assert answer.properties.UserProperty == [("batch", "7"), ("content-encoding", "zstd")]
            await run.until_event("message-unreadable", "more than the channel's max_payload")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
