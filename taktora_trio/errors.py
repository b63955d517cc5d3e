"""One family of errors: whatever the library raises on purpose is a `ConnectorError`.

What is wrong with a declaration is a `ConfigError`; what is wrong with one message is a `MessageError`. Where trio
already has the exception (`ClosedResourceError`, `EndOfChannel`, `BusyResourceError`) it is raised as it is; where trio
has one and more must be said (`BackPressure`) the error is both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import trio

__all__ = [
    "BackPressure",
    "CodecError",
    "ConfigError",
    "ConnectorDown",
    "ConnectorError",
    "DomainInUse",
    "Escalated",
    "MessageError",
    "MessageRefused",
    "NoSuchDomain",
    "Overrun",
    "PayloadOverflow",
    "RequestFailed",
    "RequestTimeout",
    "ServiceMismatch",
    "StoreError",
    "TemporaryFailure",
    "TransportError",
    "check_library",
    "collapse",
    "is_worth_logging",
    "leaves",
    "missing_extra",
    "summary",
]


class ConnectorError(Exception):
    """The base of all errors of this library. Its message says what to do."""


class ConfigError(ConnectorError):
    """A declaration or a request that can't work. The command shows its message in one line and exits with 2."""


class TemporaryFailure(ConfigError):
    """What was asked for can't work now, and may later, though nothing of it is changed. The command exits with 75."""


class DomainInUse(TemporaryFailure):
    """Another process already holds the domain, in the role that was asked for."""


class NoSuchDomain(ConnectorError):
    """There is no run of the deployment that was asked for. The command exits with 3."""


class ServiceMismatch(TemporaryFailure):
    """The other half has other channels, or another codec or size of one; the message says which, and in what.

    It passes when the other half is the same version again.
    """


class MessageError(ConnectorError):
    """One message can't be carried: its topic, correlation id, metadata, size or encoding. The channel goes on.

    From `send` it means that nothing was sent. `topic` is the concrete topic of an inbound message, empty for an
    outbound one.
    """

    def __init__(self, message: str, *, topic: str = "") -> None:
        super().__init__(message)
        self.topic = topic


class PayloadOverflow(MessageError):
    """A message is larger than its channel's `max_payload` (or its topic than `max_topic`, or its metadata than
    `max_metadata`)."""


class CodecError(MessageError):
    """A message can't be encoded, or a payload can't be decoded."""


class MessageRefused(MessageError):
    """The other side has refused a message that was sent, or it was given up; the text has the reason.

    `refusals` has the reason of each such message, by the number that `send` returned, as far as they were kept.
    """

    def __init__(self, message: str, refusals: Mapping[int, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.refusals = refusals


class RequestFailed(MessageError):
    """A request was answered with a failure; the text has the reason.

    A handler raises it to answer so, with a reason of its own. The requester raises it with that reason, or with what
    else the handler has raised.
    """


class RequestTimeout(MessageError, trio.TooSlowError):
    """A request has no answer at its deadline. It may have been carried out all the same."""


class StoreError(ConnectorError):
    """A store on disk can't be read or written now. What is to be stored waits, and it is tried again."""


class BackPressure(ConnectorError, trio.WouldBlock):
    """`send_nowait` found the channel full: a whole window is not acknowledged. `await send(...)` waits instead."""


class ConnectorDown(ConnectorError):
    """The other side refuses the connector, and will until somebody changes something. Tried again after minutes."""


class Escalated(ConnectorError):
    """A supervised task or process failed too often, and its policy says that the whole deployment ends with it."""


class Overrun(ConnectorError):
    """A cycle of an item took longer than its budget, and the item counts that as a failure."""


class TransportError(ConnectorError):
    """Shared memory or an operating system call failed in a way the library can't mend by itself."""


def missing_extra(user: str, package: str, extra: str) -> ConfigError:
    """Make the error to raise where a package can't be imported that only `user` needs."""
    return ConfigError(f"{user} needs {package}: pip install 'taktora-trio[{extra}]'")


def check_library(user: str, module: str, package: str, extra: str) -> None:
    """Raise as `missing_extra` makes it if a module can't be found. It is not imported."""
    from importlib.util import find_spec  # few need it, and a supervisor imports this module, too

    try:
        is_there = find_spec(module) is not None
    except ModuleNotFoundError:  # nor is its package
        is_there = False
    if not is_there:
        raise missing_extra(user, package, extra)


def collapse(exc: Exception) -> Exception:
    """Return the cause itself where groups around it hold nothing else; return a group of several as it is."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def leaves(exc: BaseException) -> list[BaseException]:
    """Return the causes in a group, however deep they lie; for an exception that is no group, itself."""
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for inner in exc.exceptions for leaf in leaves(inner)]
    return [exc]


def summary(exc: BaseException) -> str:
    """Return one line for an exception; for a group, its causes. Never raises, even if a `__str__` does."""
    return "; ".join(_one_summary(leaf) for leaf in leaves(exc))


def _one_summary(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception as failure:  # noqa: BLE001 - a `__str__` may raise anything
        text = f"(its message can't be shown: {type(failure).__name__})"
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def is_worth_logging(count: int) -> bool:
    """Return True for 1, 2, 4, 8, ...: at these counts, log an event that repeats, so that it does not fill the log."""
    return count & (count - 1) == 0
