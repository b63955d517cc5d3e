"""Asks a run to stop, start or restart all of it or a half, to reload, or to log more; and waits until it is so."""

from __future__ import annotations

import select
import signal

from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.runners.parts.asking import catches, find_supervising, open_process
from taktora_trio.runners.parts.requests import Answer, Verb, open_request
from taktora_trio.transport.domain import Domain
from taktora_trio.vitals.reading import no_such

__all__ = ["ask", "ask_who_supervises"]


def ask(domain: Domain, verb: Verb, half: str, seconds: float, what: str = "") -> Answer:
    """Ask for it, and return what has come of it within so many seconds. The lines of the answer can be shown.

    Raises `NoSuchDomain`, `ConfigError` for what nobody there can do, and `ConnectorError` if there is no answer.
    """
    owner, plugin, gateway = (domain.holder(role) for role in ("owner", "plugin", "gateway"))
    if owner is None and gateway is None:
        raise no_such(domain)
    if not owner or owner != plugin or owner == gateway:
        return ask_who_supervises(domain, verb, half, seconds, what)
    # Each half was started by itself, as by systemd, which alone can start it again.
    if verb == "stop":
        lines = [] if half == "gateway" else [_stop_plugin(owner, seconds)]
        if half != "plugin" and gateway:
            lines += ask_who_supervises(domain, verb, "gateway", seconds, what).lines
        return Answer(0, tuple(lines) or ("there is no gateway",))
    if half == "gateway" and gateway:
        return ask_who_supervises(domain, verb, half, seconds, what)
    if verb == "log-level":
        raise ConfigError(f"the plugin (pid {owner}) runs by itself, and can't be asked: start it with --log.level")
    raise ConfigError(
        f"the halves of domain {domain.name!r} run by themselves (plugin: pid {owner}, gateway: pid"
        f" {gateway or 'none'}): {verb} them where they were started, for example by systemctl {verb}"
    )


def ask_who_supervises(domain: Domain, verb: Verb, half: str = "", seconds: float = 30.0, what: str = "") -> Answer:
    """Ask the process that supervises the gateway. Returns and raises as `ask` does."""
    with find_supervising(domain) as asked:
        with open_request(domain, verb, half=half, what=what, seconds=seconds) as answers:
            asked.signal()
            answer = answers.wait(asked.pidfd)
        if answer is None:
            raise ConnectorError(
                f"the {asked.name} of domain {domain.name!r} (pid {asked.pid}) has not answered: it has ended, hangs,"
                " is stopped, or is a program that can't do that; see its log"
            )
        if answer.ends:
            _wait_for_end(asked.pidfd, f"{asked.name} (pid {asked.pid})", seconds)
            return Answer(answer.code, (*answer.lines, f"the {asked.name} (pid {asked.pid}) has stopped"))
        return answer


def _stop_plugin(pid: int, seconds: float) -> str:
    if not catches(pid, signal.SIGTERM):
        raise ConfigError(f"pid {pid} is a program that takes no SIGTERM: stop it as it was started")
    with open_process(pid, "the plugin") as pidfd:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        _wait_for_end(pidfd, f"plugin (pid {pid})", seconds)
    return f"the plugin (pid {pid}) has stopped"


def _wait_for_end(pidfd: int, what: str, seconds: float) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise ConnectorError(f"the {what} was told to stop, and has not ended within {seconds:g} s")
