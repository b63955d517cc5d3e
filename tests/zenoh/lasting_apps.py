"""An app with a latched channel and with presence, for tests that kill its gateway."""

from __future__ import annotations

from taktora_trio import ConnectorHost, Deployment, Inbound, Outbound, RawCodec, ZenohConnector, ZenohRouting

REQUEST = Inbound("request", bytes, ZenohRouting("test/request"))
STATE = Outbound("state", bytes, ZenohRouting("test/state", latched=True))


async def app(host: ConnectorHost) -> None:
    """Have as state what was put last."""
    async with host.open_reader(REQUEST) as requests, host.open_writer(STATE) as states:
        async for request in requests:
            await states.send(request.value)


deployment = Deployment("lasting", app, [ZenohConnector([REQUEST, STATE], codec=RawCodec())])
