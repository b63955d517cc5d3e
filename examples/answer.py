"""Answers each request with its own payload, on the topic that the request names, with its correlation id.

taktora-trio run examples.answer:deployment --mode split --broker mqtt://localhost

mosquitto_rr -V 5 -t taktora/asked/me -e taktora/answers/me -m hello
"""

import logging

from taktora_trio import (
    ConnectorError,
    ConnectorHost,
    Deployment,
    Inbound,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
)

log = logging.getLogger(__name__)

ASKED = Inbound("asked", bytes, MqttRouting("taktora/asked/+", qos=1), max_metadata=512)
ANSWERS = Outbound("answers", bytes, MqttRouting("taktora/answers/#", qos=1), max_metadata=512)


async def answer(host: ConnectorHost) -> None:
    async with host.open_reader(ASKED) as requests, host.open_writer(ANSWERS) as answers:
        async for request in requests:
            if request.metadata is None or not request.metadata.response_topic:
                continue  # nobody waits for an answer
            try:
                await answers.send(
                    request.value,
                    topic=request.metadata.response_topic,
                    correlation_id=request.header.correlation_id,
                    metadata=Metadata(
                        content_type=request.metadata.content_type,
                        user_properties=request.metadata.user_properties,
                    ),
                )
            except ConnectorError as exc:  # a request may name any topic
                log.warning("a request on %s has no answer: %s", request.topic, exc)


deployment = Deployment(
    "answer", answer, [MqttConnector([ASKED, ANSWERS], options=MqttOptions(protocol="5"), codec=RawCodec())]
)
