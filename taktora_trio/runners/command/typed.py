"""What was typed: the settings of connectors, apart from a command's own options; and a half, without the parser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from taktora_trio.runners.command.half import launch_gateway, launch_plugin
from taktora_trio.runners.options import OWN_OPTIONS, Options, TypedSettings
from taktora_trio.runners.this_process.log_formats import LOG_FORMATS

__all__ = ["plain_half", "without_settings"]


def plain_half(arguments: Sequence[str]) -> Callable[[], int] | None:
    """Return the half that these arguments start, ready to be called. `None` if the parser has to look at them.

    Each start of a half comes by here, and most are typed by a supervisor or a unit. The parser takes 2 MB of a process
    for as long as it lives, and 50 ms of its start. It has the help, and says what is wrong.
    """
    own, settings = without_settings(arguments)
    half = own[0] if own else ""
    if half not in ("plugin", "gateway"):
        return None
    targets: list[str] = []
    given: dict[str, list[str]] = {option: [] for option in OWN_OPTIONS[half]}
    rest = list(reversed(own[1:]))
    while rest:
        option, equals, text = (word := rest.pop()).partition("=")
        if option in given:
            value = text if equals or not rest else rest.pop()
            if not value or (not equals and value.startswith("-")):
                return None
            given[option].append(value)
        elif word.startswith("-"):
            return None
        else:
            targets.append(word)
    connectors = given.pop("--connector", [])
    if len(targets) != 1 or any(len(values) > 1 for values in given.values()):
        return None
    one = {option: values[0] for option, values in given.items() if values}
    log = next((name for name in LOG_FORMATS if name == one.get("--log")), None)
    if log is None and "--log" in one:
        return None
    options = Options(domain=one.get("--domain"), log=log, store=one.get("--store"), config=one.get("--config"))
    if half == "plugin":
        return partial(launch_plugin, targets[0], options, settings)
    try:
        outlast = float(one.get("--outlast", "0"))
    except ValueError:
        return None
    return partial(launch_gateway, targets[0], options, settings, tuple(connectors), outlast)


def without_settings(arguments: Sequence[str]) -> tuple[list[str], TypedSettings]:
    """Return the arguments that the command itself knows, and apart from them the settings."""
    if not arguments or arguments[0] not in OWN_OPTIONS:
        return list(arguments), ()
    known = {*OWN_OPTIONS[arguments[0]], "--help"}  # asking the parser for them would take a start some milliseconds
    own: list[str] = []
    settings: list[tuple[str, str | None]] = []
    rest = list(reversed(arguments))
    while rest:
        option, equals, text = (argument := rest.pop()).partition("=")
        if argument == "--":
            return [*own, argument, *reversed(rest)], tuple(settings)
        if not argument.startswith("--") or option in known:
            own.append(argument)
        elif equals:
            settings.append((option[2:], text))
        else:
            settings.append((option[2:], rest.pop() if rest and not rest[-1].startswith("-") else None))
    return own, tuple(settings)
