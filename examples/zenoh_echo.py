"""Echo over Zenoh: for every request, publish the same payload bytes as a reply, in the same order.

taktora-trio run examples.zenoh_echo:deployment --mode split --connect tcp/127.0.0.1:7447

Both ways each message is acknowledged: a request by this app when its reply is sent, and a reply by whoever gets it.
"""

from taktora_trio import ConnectorHost, Deployment, Inbound, Outbound, RawCodec, ZenohConnector, ZenohRouting

REQUEST = Inbound("request", bytes, ZenohRouting("taktora/echo/request/*", acknowledged=True), max_payload=65_536)
REPLY = Outbound("reply", bytes, ZenohRouting("taktora/echo/reply", acknowledged=True), max_payload=65_536)


async def echo(host: ConnectorHost) -> None:
    async with host.open_reader(REQUEST) as requests, host.open_writer(REPLY) as replies:
        async for request in requests:
            await replies.send(request.value)


deployment = Deployment("zenoh-echo", echo, [ZenohConnector([REQUEST, REPLY], codec=RawCodec())])
