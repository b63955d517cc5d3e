"""The addresses behind a name, and which of them take a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.connectors.sockets import SocketAddress, open_any, why
from taktora_trio.escaping import escaped

__all__ = ["Server", "connections", "names"]

_RESOLVE_WITHIN = 5.0  # seconds, which is the resolver's own patience with one server (resolv.conf(5))
_MOST_ADDRESSES = 8


@attrs.frozen(kw_only=True)
class Server:
    """The other side, as it was given."""

    what: str
    """What texts call it: `broker`, `router`."""
    host: str
    port: int
    is_unix: bool = False
    """True if it is at a unix socket."""
    within: float
    """Seconds for a connection."""


async def names(
    server: Server, resolve: Callable[[], Awaitable[list[SocketAddress]]]
) -> tuple[list[Finding], list[SocketAddress]]:
    """Return what was found of the name, and the addresses behind it."""
    host = escaped(server.host)
    try:
        with trio.fail_after(_RESOLVE_WITHIN):
            found = await resolve()
    except trio.TooSlowError:
        text = f"no answer about {host} within {_RESOLVE_WITHIN:g} s"
        return [fail("name", text, "check the name servers in /etc/resolv.conf, and the network")], []
    except (OSError, ValueError) as exc:
        text = f"{host} can't be looked up: {why(exc)}"
        return [fail("name", text, "check the spelling, /etc/hosts and /etc/resolv.conf; or give an address")], []
    addresses = list(dict.fromkeys(map(str, found)))
    if server.is_unix or addresses == [server.host]:
        return [], found
    return [ok("name", f"{host} is {', '.join(addresses[:_MOST_ADDRESSES])}")], found


async def connections(server: Server, addresses: Sequence[SocketAddress]) -> tuple[list[Finding], list[SocketAddress]]:
    """Connect to each address at once; return what was found, and those that take a connection."""
    reached: dict[SocketAddress, float] = {}
    failed: dict[SocketAddress, str] = {}

    async def connect(address: SocketAddress) -> None:
        begun = trio.current_time()
        failed[address] = f"no answer within {server.within:g} s"
        with trio.move_on_after(server.within):
            try:
                _, stream = await open_any([address])
            except (OSError, ValueError) as exc:
                failed[address] = why(exc)
                return
            reached[address] = trio.current_time() - begun
            del failed[address]
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for address in addresses[:_MOST_ADDRESSES]:
            nursery.start_soon(connect, address)
    check = "socket" if server.is_unix else "tcp"
    wrong = "; ".join(f"{address}: {reason}" for address, reason in failed.items())
    if not reached:
        return [fail(check, escaped(wrong, 400), _advice(wrong, server))], []
    times = ", ".join(f"{address} in {1000 * seconds:.1f} ms" for address, seconds in reached.items())
    findings = [ok(check, f"connected to {times}")]
    if failed:
        advice = "a gateway tries the other addresses, and loses time at these: mend them, or take them from the name"
        findings.append(warn(check, escaped(wrong, 400), advice))
    return findings, [address for address in addresses if address in reached]


def _advice(wrong: str, server: Server) -> str:
    if server.is_unix:
        return f"start the {server.what}; check the path, and that this user may write to the socket"
    if "refused" in wrong:
        return f"start the {server.what}, or check its port ({server.port}) and the addresses that it listens at"
    if "no answer" in wrong:
        return "a firewall drops this, or the machine is off: check the way there (ip route get, nc -vz)"
    return "check the network, and the address"
