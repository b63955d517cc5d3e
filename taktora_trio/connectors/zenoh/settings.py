"""The options of the command line that a Zenoh connector brings, besides the fields of its options."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taktora_trio.connectors.settings import Setting, SettingValues
from taktora_trio.connectors.zenoh.options import ZenohOptions

__all__ = ["EMBEDDED", "SETTINGS", "configured", "unused"]

EMBEDDED = "embedded"

SETTINGS = (
    Setting(
        "connect",
        "Connect to this endpoint, such as tcp/HOST:7447, or tls/ for TLS, instead of the deployment's own. Several"
        " with commas between them, or by giving it several times. For `run` also `embedded`: a router on loopback for"
        " trying things out.",
        words=frozenset({EMBEDDED}),
        repeatable=True,
    ),
    Setting(
        "zenoh-password-file",
        "Read the password of the Zenoh user from this file (else from the variable TAKTORA_ZENOH_PASSWORD).",
        kind="secret",
    ),
    Setting("ca-file", "Trust the certificate authorities in this PEM file, instead of the public ones.", kind="path"),
)


def configured(options: ZenohOptions, values: SettingValues) -> ZenohOptions:
    """Return the options with these values instead of their own."""
    changes: dict[str, object] = {}
    if "connect" in values:
        changes["connect"] = values["connect"].text
    if "ca-file" in values:
        changes["ca_file"] = values["ca-file"].path
    password = values.get("zenoh-password-file")
    if password is not None and options.user is not None:
        changes["password"] = password.secret
    return attrs.evolve(options, **changes)  # type: ignore[arg-type]


def unused(options: ZenohOptions, values: SettingValues) -> Mapping[str, str]:
    """Return the values that have changed nothing in these options, each with the reason."""
    reasons: dict[str, str] = {}
    if "zenoh-password-file" in values and options.user is None:
        reasons["zenoh-password-file"] = (
            "a Zenoh password was given, by a file or by TAKTORA_ZENOH_PASSWORD, but no user waits for one: name the"
            " user, by --user NAME or ZenohOptions(user=...)"
        )
    endpoints = (*options.endpoints, *options.listeners)
    if "ca-file" in values and options.zenoh_config is None and not any(one.is_tls for one in endpoints):
        reasons["ca-file"] = "a CA file was given, but no endpoint is reached by TLS: write tls/HOST:PORT"
    return reasons
