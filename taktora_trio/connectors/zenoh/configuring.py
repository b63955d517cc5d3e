"""The library's configuration of a node, made of the options: https://zenoh.io/docs/manual/configuration/."""

from __future__ import annotations

import re
from collections.abc import Mapping

from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["MODE_DIFFERS", "configuration", "one_line", "own_text", "shown_config"]

MODE_DIFFERS = "its mode is {own!r}, and the connector's is {wanted!r}: make them the same, or leave it out there"
"""Said of `zenoh_config`, whose mode nobody would heed."""

_SYNTAX = re.compile(r"--> (?P<line>\d+):(?P<column>\d+) \| .* \| = (?P<what>expected .+)")
_TLS = "transport/link/tls"
_LOGIN = "transport/auth/usrpwd"


def configuration(options: ZenohOptions) -> Mapping[str, object]:
    """Return the values to set, by their place in the configuration."""
    is_client = options.mode == "client"
    values: dict[str, object] = {
        "mode": options.mode,
        # A client tries once: the bridge connects again. Others go on trying by themselves.
        "connect/timeout_ms": 0 if is_client else -1,
        "connect/exit_on_failure": is_client,
        "connect/retry": {
            "period_init_ms": _milliseconds(options.reconnect.initial),
            "period_max_ms": _milliseconds(options.reconnect.maximum),
            "period_increase_factor": options.reconnect.factor,
        },
        "transport/unicast/open_timeout": _milliseconds(options.connect_timeout),
        # Each session would have a file in /dev/shm, which stays when the gateway is killed.
        "transport/shared_memory/enabled": False,
    }
    if options.connect is not None or options.places:
        values["connect/endpoints"] = list(options.places)
    if options.listen is not None:
        values["listen/endpoints"] = list(options.listen)
    if options.scouting is not None or options.zenoh_config is None:
        values["scouting/multicast/enabled"] = options.looks_around
    if options.lease is not None:
        values["transport/link/tx/lease"] = _milliseconds(options.lease)
    return values | _security(options)


def _security(options: ZenohOptions) -> dict[str, object]:
    values: dict[str, object] = {}
    if options.ca_file is not None:
        values[f"{_TLS}/root_ca_certificate"] = str(options.ca_file)
    if options.cert_file is not None:
        key = options.key_file or options.cert_file
        for use in ("connect", "listen"):
            values[f"{_TLS}/{use}_certificate"] = str(options.cert_file)
            values[f"{_TLS}/{use}_private_key"] = str(key)
        # For a node that listens it means that all who connect need a certificate, too.
        values[f"{_TLS}/enable_mtls"] = options.mode == "client" or options.ca_file is not None
    if options.user is not None and options.password is not None:
        values[f"{_LOGIN}/user"] = options.user
        values[f"{_LOGIN}/password"] = options.password.decode()
    return values


def _milliseconds(time: float) -> int:
    return max(1, round(1000 * time))


def own_text(options: ZenohOptions) -> str:
    """Return Zenoh's own configuration as JSON5, from the file if there is one. Raises `ConfigError`.

    It is read here, for a run hands it to its gateway as a file in memory, of whose name Zenoh would know no format.
    """
    if options.zenoh_config is None:
        return "{}"
    try:
        return options.zenoh_config.read_text("utf-8")
    except OSError as exc:
        raise ConfigError(f"{shown_config(options)} can't be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown_config(options)} is no UTF-8: write JSON5") from None


def shown_config(options: ZenohOptions) -> str:
    """Return what texts call the file."""
    return f"zenoh_config {escaped(str(options.zenoh_config))}"


def one_line(text: str) -> str:
    """Return an error's text without the places in the library's source that end it, fit to be shown."""
    text = " ".join(text.split(" at /", 1)[0].split())
    if found := _SYNTAX.search(text):
        text = f"line {found['line']}, column {found['column']}: {found['what']}"
    return escaped(text) or "no reason is given"
