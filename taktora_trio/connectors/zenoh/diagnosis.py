"""What `taktora-trio doctor` finds out about where a node joins, as a guest: a client that declares nothing."""

from __future__ import annotations

from functools import partial

import attrs
import trio

from taktora_trio.connectors.certificates import tls_context
from taktora_trio.connectors.examining.reaching import Server, connections, names
from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.connectors.sockets import SocketAddress
from taktora_trio.connectors.zenoh.configuring import configuration, own_text, shown_config
from taktora_trio.connectors.zenoh.endpoints import Endpoint
from taktora_trio.connectors.zenoh.keys import check_key
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.preflight import addresses_of
from taktora_trio.connectors.zenoh.probe import Answer, Question, ask
from taktora_trio.escaping import escaped

__all__ = ["diagnose"]

_SCOUTING = 1.5  # seconds, in which all answer who are there
_IS_IT_ZENOH = "check host and port (7447 is usual), and that the protocol is the port's: tcp/, or tls/ for TLS"


async def diagnose(options: ZenohOptions, trial: str | None = None) -> list[Finding]:
    """Examine all endpoints at once, and look around if the node would; return what was found in their order.

    Messages are put only to the key `trial`. Raises `ConfigError` if it is none, or the library is missing.
    """
    if trial is not None:
        check_key(trial)
    if options.session == "memory":
        return [ok("router", "it is within the process, for tests")]
    if options.zenoh_config is not None and options.connect is None:
        named = await trio.to_thread.run_sync(ask, _question(options))
        if named.error:
            return [fail("configuration", f"{shown_config(options)} is refused: {named.error}", "mend what this says")]
        options = attrs.evolve(options, connect=named.connect)
    found: dict[int, list[Finding]] = {}

    async def examine_one(position: int, endpoint: Endpoint) -> None:
        found[position] = [
            attrs.evolve(finding, subject=str(endpoint)) for finding in await _examine(options, endpoint, trial)
        ]

    async with trio.open_nursery() as nursery:
        for position, endpoint in enumerate(options.endpoints):
            nursery.start_soon(examine_one, position, endpoint)
        if options.looks_around:
            nursery.start_soon(_look_around, options, found)
    return [finding for position in sorted(found) for finding in found[position]]


async def _examine(options: ZenohOptions, endpoint: Endpoint, trial: str | None) -> list[Finding]:
    """Return what was found of one endpoint, each step only if the one before has worked."""
    findings: list[Finding] = []
    if endpoint.is_stream:
        findings, reached = await _reach(options, endpoint)
        if not reached:
            return findings
        if endpoint.is_tls and (options.ca_file is not None or options.zenoh_config is None):  # else that may have one
            findings += await _tls(options, endpoint, reached[0])
    if any(finding.status == "fail" for finding in findings):
        return findings
    return [*findings, *await _join(_guest(options, endpoint), trial)]


async def _reach(options: ZenohOptions, endpoint: Endpoint) -> tuple[list[Finding], list[SocketAddress]]:
    server = Server(
        what="router",
        host=endpoint.path or endpoint.host,
        port=endpoint.port,
        is_unix=bool(endpoint.path),
        within=options.connect_timeout,
    )
    findings, addresses = await names(server, partial(addresses_of, endpoint))
    if not addresses:
        return findings, []
    found, reached = await connections(server, addresses)
    return [*findings, *found], reached


async def _tls(options: ZenohOptions, endpoint: Endpoint, address: SocketAddress) -> list[Finding]:
    from taktora_trio.connectors.examining.tls import TlsServer, examine_tls  # with it comes OpenSSL

    server = TlsServer(
        what="router",
        host=endpoint.host,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        context=partial(tls_context, options.ca_file, options.cert_file, options.key_file),
        within=options.connect_timeout,
        no_tls="check the port, and write tcp/ for a port without TLS",
    )
    return await examine_tls(server, address)


def _guest(options: ZenohOptions, endpoint: Endpoint) -> ZenohOptions:
    """Return the options of a client of this endpoint alone."""
    return attrs.evolve(options, mode="client", connect=endpoint.text, listen=(), scouting=False)


def _question(options: ZenohOptions, **more: object) -> Question:
    return Question(text=own_text(options), values=configuration(options), **more)  # type: ignore[arg-type]


async def _join(guest: ZenohOptions, trial: str | None) -> list[Finding]:
    question = _question(guest, open=True, trial=trial or "")
    answer = await trio.to_thread.run_sync(ask, question, 4 * guest.connect_timeout)
    who = f"as {escaped(guest.user)!r}" if guest.user else "without a user name"
    if guest.user is None and guest.zenoh_config is not None:
        who = "as zenoh_config says"
    if answer.error:
        return [_refused(guest, answer, who)]
    there = [f"router {escaped(one)}" for one in answer.routers] or [f"peer {escaped(one)}" for one in answer.peers]
    by = ", ".join(there) or "nobody who says who it is"
    findings = [ok("login", f"accepted {who}, by {by}; eclipse-zenoh is {answer.version} here")]
    return findings if trial is None else [*findings, _tried(trial, answer)]


def _refused(guest: ZenohOptions, answer: Answer, who: str) -> Finding:
    text = "; ".join(answer.failures) or answer.error
    [endpoint] = guest.endpoints or [None]
    remedy = f"the router's log says why; {_IS_IT_ZENOH}"
    if "deadline" in text:
        remedy = f"whatever listens there does not answer as Zenoh does, or hangs: {_IS_IT_ZENOH}"
    elif endpoint is not None and endpoint.is_tls and guest.cert_file is None:
        remedy = "a router ends it so that asks for a client's certificate: set cert-file and key-file"
    elif guest.user is not None:
        remedy = "check user and password (--user, --zenoh-password-file), and the router's"
    else:
        remedy = f"a router that asks for a user does this: give --user and --zenoh-password-file; {_IS_IT_ZENOH}"
    return fail("login", f"not accepted {who}: {escaped(text, 300)}", remedy)


def _tried(trial: str, answer: Answer) -> Finding:
    shown = repr(escaped(trial))
    if answer.came:
        return ok("try", f"what was put to {shown} came back to another guest, {answer.came} of {answer.put}")
    return fail("try", f"nothing of what was put to {shown} came back", "see the router's access control for this key")


async def _look_around(options: ZenohOptions, found: dict[int, list[Finding]]) -> None:
    answer = await trio.to_thread.run_sync(ask, _question(options, scout=_SCOUTING), _SCOUTING)
    if answer.error:
        finding = fail(
            "scouting", escaped(answer.error, 300), "check the interface, and that multicast is allowed on it"
        )
    elif answer.found:
        finding = ok("scouting", f"by multicast were found {escaped('; '.join(answer.found), 400)}")
    else:
        text = f"nobody has answered by multicast within {_SCOUTING:g} s"
        remedy = "start another node, allow UDP port 7446 and multicast on the way, or name endpoints by --connect"
        is_needed = options.mode == "client" and not options.endpoints
        finding = fail("scouting", text, remedy) if is_needed else warn("scouting", text, remedy)
    found[len(options.endpoints)] = [finding]
