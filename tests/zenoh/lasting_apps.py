"""Apps with latched channels and with presence, for tests that kill their gateway."""

from __future__ import annotations

import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, JsonCodec, Outbound, RawCodec, ZenohConnector, ZenohRouting

REQUEST = Inbound("request", bytes, ZenohRouting("test/request"))
STATE = Outbound("state", bytes, ZenohRouting("test/state", latched=True))

WANTED = Inbound("wanted", str, ZenohRouting("test/wanted", latched=True))
ALIVE = Inbound("alive", bool, ZenohRouting("test/*/alive", liveliness=True))
PLAIN = Inbound("plain", str, ZenohRouting("test/plain"))
SEEN = Outbound("seen", str, ZenohRouting("test/seen", latched=True))


async def app(host: ConnectorHost) -> None:
    """Have as state what was put last."""
    async with host.open_reader(REQUEST) as requests, host.open_writer(STATE) as states:
        async for request in requests:
            await states.send(request.value)


async def tell(host: ConnectorHost) -> None:
    """Tell all that is seen."""
    async with host.open_writer(SEEN) as seen, host.open_reader(PLAIN), trio.open_nursery() as nursery:

        async def watch() -> None:
            async with host.open_reader(ALIVE) as alive:
                async for received in alive:
                    await seen.send(f"{received.topic} {received.value}")

        nursery.start_soon(watch)
        async with host.open_reader(WANTED) as wanted:
            async for received in wanted:
                await seen.send(f"{received.value} {received.retained}")


deployment = Deployment("lasting", app, [ZenohConnector([REQUEST, STATE], codec=RawCodec())])
telling = Deployment("telling", tell, [ZenohConnector([WANTED, ALIVE, PLAIN, SEEN], codec=JsonCodec())])
