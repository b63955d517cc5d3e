"""Apps that send back what they get, compressed from 100 bytes on: by MQTT 5, with room for metadata, and by 3.1.1."""

from __future__ import annotations

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    JsonCodec,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    ZstdCodec,
)

MAX_PAYLOAD = 20_000


def deployment_of(options: MqttOptions, max_metadata: int) -> Deployment:
    asked = Inbound("asked", str, MqttRouting("zstd/asked", qos=1), max_payload=MAX_PAYLOAD, max_metadata=max_metadata)
    answers = Outbound(
        "answers", str, MqttRouting("zstd/answers", qos=1), max_payload=MAX_PAYLOAD, max_metadata=max_metadata
    )

    async def app(host: ConnectorHost) -> None:
        async with host.open_reader(asked) as requests, host.open_writer(answers) as writer:
            async for request in requests:
                await writer.send(request.value, metadata=request.metadata)

    codec = ZstdCodec(JsonCodec(), threshold=100)
    return Deployment("zstd", app, [MqttConnector([asked, answers], options=options, codec=codec)])


new = deployment_of(MqttOptions(protocol="5"), 100)
old = deployment_of(MqttOptions(protocol="3.1.1"), 0)
