"""The app, in a module of its own, which the gateway's process never loads: it sends back what it gets."""

from examples.line_protocol import REPLIES, REQUESTS
from taktora_trio import ConnectorHost


async def echo(host: ConnectorHost) -> None:
    async with host.open_reader(REQUESTS) as requests, host.open_writer(REPLIES) as replies:
        async for request in requests:
            await replies.send(request.value)
