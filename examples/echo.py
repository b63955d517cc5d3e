"""Echo: for every request, publish the same payload bytes as a reply, in the same order.

taktora-trio run examples.echo:deployment --mode split --broker mqtt://localhost

mosquitto_sub -t taktora/echo/reply &
mosquitto_pub -t taktora/echo/request/me -m hello
"""

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec

REQUEST = Inbound("request", bytes, MqttRouting("taktora/echo/request/+", qos=1), max_payload=65_536)
REPLY = Outbound("reply", bytes, MqttRouting("taktora/echo/reply", qos=1), max_payload=65_536)


async def echo(host: ConnectorHost) -> None:
    async with host.open_reader(REQUEST) as requests, host.open_writer(REPLY) as replies:
        async for request in requests:
            await replies.send(request.value)


deployment = Deployment("echo", echo, [MqttConnector([REQUEST, REPLY], codec=RawCodec())])
