"""Whether somebody listens at the endpoints: before a run starts, and to say why a node could not join."""

from __future__ import annotations

import contextlib

import trio

from taktora_trio.connectors.sockets import SocketAddress, open_any, resolve_host, why
from taktora_trio.connectors.zenoh.endpoints import Endpoint
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.errors import TemporaryFailure

__all__ = ["addresses_of", "check_any_reachable", "is_heard_out", "why_not_joined"]

_PATIENCE = 3.0  # seconds
_A_WHILE = 0.1  # seconds in which who speaks first has spoken


async def check_any_reachable(options: ZenohOptions) -> None:
    """Raise `TemporaryFailure` unless something listens at one of a client's endpoints. It does not log in.

    Peers and routers need nobody to begin with, and where nodes are looked for nobody is named.
    """
    endpoints = options.endpoints
    if options.mode != "client" or not endpoints or not all(endpoint.is_stream for endpoint in endpoints):
        return
    complaints = await _complaints(endpoints, _PATIENCE)
    if len(complaints) == len(endpoints):
        advice = "check --connect, start the router, or use --await-peer to start without it"
        raise TemporaryFailure(f"{'; '.join(complaints)}: {advice}")


async def why_not_joined(options: ZenohOptions) -> str:
    """Return why a client was not taken, as far as connections tell: the library says nothing of it."""
    if not options.endpoints:
        return "no router was found by multicast" if options.looks_around else "nobody has accepted this node"
    endpoints = [endpoint for endpoint in options.endpoints if endpoint.is_stream]
    complaints = await _complaints(endpoints, min(_PATIENCE, options.connect_timeout))
    if endpoints and len(complaints) == len(endpoints) == len(options.endpoints):
        return "; ".join(complaints)
    return (
        f"nobody at {options.address} has accepted this node: it may refuse the login or the certificate, or speak no"
        " Zenoh; `taktora-trio doctor` finds out"
    )


async def is_heard_out(options: ZenohOptions) -> bool:
    """Return whether one of the endpoints takes a connection, and waits for what comes, as a router does.

    A network that ends connections, and a server that speaks first, do not.
    """
    for endpoint in options.endpoints:
        if not endpoint.is_stream:
            continue
        with trio.move_on_after(_PATIENCE), contextlib.suppress(OSError, ValueError, trio.BrokenResourceError):
            _, stream = await open_any(await addresses_of(endpoint))
            async with stream:
                with trio.move_on_after(_A_WHILE) as waited:
                    await stream.receive_some(1)
                if waited.cancelled_caught:
                    return True
    return False


async def addresses_of(endpoint: Endpoint) -> list[SocketAddress]:
    """Return the addresses behind an endpoint. Raises `OSError`."""
    if endpoint.path:
        return [SocketAddress(trio.socket.AF_UNIX, endpoint.path)]
    return await resolve_host(endpoint.host, endpoint.port)


async def _complaints(endpoints: tuple[Endpoint, ...] | list[Endpoint], patience: float) -> list[str]:
    """Try all at once, and return what is wrong with each that can't be reached; with any one reached, maybe less."""
    complaints: dict[int, str] = {}

    async def check(position: int, endpoint: Endpoint) -> None:
        complaints[position] = f"{endpoint} does not answer within {patience:g} s"
        with trio.move_on_after(patience):
            try:
                _, stream = await open_any(await addresses_of(endpoint))
            except (OSError, ValueError) as exc:
                complaints[position] = f"{endpoint} can't be reached ({why(exc)})"
            else:
                await trio.aclose_forcefully(stream)
                del complaints[position]
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for position, endpoint in enumerate(endpoints):
            nursery.start_soon(check, position, endpoint)
    return [complaints[position] for position in sorted(complaints)]
