"""Asks a run to read its configuration again, and waits for what has come of it."""

from __future__ import annotations

from taktora_trio.errors import ConnectorError
from taktora_trio.escaping import escaped
from taktora_trio.runners.parts.asking import find_supervising
from taktora_trio.runners.parts.requests import Answer, open_request
from taktora_trio.transport.domain import Domain

__all__ = ["ask_to_reload"]

_LENGTH = 4000  # characters of a line


def ask_to_reload(domain: Domain) -> Answer:
    """Ask the run of this domain, and return what has come of it, with lines that can be shown.

    Raises `NoSuchDomain`, `ConfigError` if it can't be asked, and `ConnectorError` if it does not answer.
    """
    with find_supervising(domain) as asked, open_request(domain) as answers:
        asked.signal()
        answer = answers.wait(asked.pidfd)
    if answer is None:
        raise ConnectorError(
            f"the {asked.name} of domain {domain.name!r} (pid {asked.pid}) has not answered: it has ended, hangs, is"
            " stopped, or is a program that can't reload; see its log"
        )
    return Answer(answer.code, tuple(escaped(line, _LENGTH) for line in answer.lines))
