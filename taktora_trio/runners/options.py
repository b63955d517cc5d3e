"""The options of the commands that run something, and the settings of connectors as they were typed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

import attrs

from taktora_trio.checks import as_path
from taktora_trio.errors import ConfigError
from taktora_trio.runners.this_process.log_formats import LogFormat

__all__ = [
    "OWN_OPTIONS",
    "EndpointOptions",
    "Half",
    "Mode",
    "Options",
    "Policies",
    "RunOptions",
    "Shape",
    "TypedSettings",
    "check_mode",
    "check_seconds",
    "given_store",
    "typed_run",
]

Mode: TypeAlias = Literal["in-process", "split"]
MODES: tuple[Mode, ...] = get_args(Mode)
STORE_VARIABLE = "TAKTORA_STORE"
Half: TypeAlias = Literal["plugin", "gateway"]
Shape: TypeAlias = Callable[..., Awaitable[int]]
"""Either `run_in_process` or `run_split`, or a function of a user's that takes the same arguments."""

TypedSettings: TypeAlias = tuple[tuple[str, str | None], ...]
"""Settings of connectors as they were typed: the name without dashes, and the text; `None` where none follows."""


_HALF = frozenset({"--config", "--domain", "--log", "--store"})
_RUN = (
    _HALF
    | {"--mode", "--for", "--await-broker", "--await-peer", "--warm", "--reload-timeout"}
    | {"--gateway-policy", "--plugin-policy"}
    | {"--endpoint", "--endpoint-page", "--endpoint-token-file"}
)
OWN_OPTIONS = {
    "run": _RUN,
    "plugin": _HALF,
    "gateway": _HALF | {"--connector", "--outlast"},
    "forget": _HALF | {"--even-if-up"},
    "config": _RUN | {"--json", "--example"},
    "doctor": _HALF | {"--json", "--try"},
}
"""The commands that take settings, and the options that they have themselves."""


def check_mode(mode: object) -> None:
    """Raise `ConfigError` for a mode that there is not."""
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}; use {' or '.join(map(repr, MODES))}")


def check_seconds(seconds: float | None) -> None:
    """Raise `ConfigError` for a `--for` that can't be."""
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"--for {seconds:g}: give more than 0 seconds")


def given_store(store: str | os.PathLike[str] | None) -> Path | None:
    """Return the store's folder, as it was given or as the environment says. Raises `ConfigError` for no path."""
    given = os.fspath(store) if store is not None else os.environ.get(STORE_VARIABLE) or None
    if given == "":  # which would be the current folder, and is what a variable that is not set comes to in a shell
        raise ConfigError("the store's folder is empty: give a path, or leave it out for the default one")
    return None if given is None else cast(Path, as_path(given)).absolute()


@attrs.frozen(kw_only=True)
class Options:
    """The options that `run`, `plugin`, `gateway` and `forget` share."""

    domain: str | None = None
    """The name under which both halves find each other; by default the deployment's name."""
    log: LogFormat | None = None
    """Log lines for people, or JSON for machines."""
    store: str | None = None
    """The folder in which the gateway keeps outbound messages on disk until they are acknowledged; by default as the
    deployment says. The environment variable TAKTORA_STORE does the same."""
    config: str | None = None
    """A file of settings (TOML), instead of `taktora.toml` in the present folder; `taktora-trio config` shows what
    comes of it."""

    @property
    def typed(self) -> TypedSettings:
        """What was given, as settings by their keys; the file is none of them."""
        given = {"domain": self.domain, "log": self.log, "store": self.store}
        return tuple((name, text) for name, text in given.items() if text is not None)


@attrs.frozen(kw_only=True)
class Policies:
    """Changes to what the deployment says, as `explain-policy` shows them."""

    gateway_policy: str | None = None
    """Change fields of the gateway's restart policy, such as intensity=3,period=30."""
    plugin_policy: str | None = None
    """Change fields of the plugin's restart policy."""


@attrs.frozen(kw_only=True)
class EndpointOptions:
    """The HTTP endpoint of a run: probes, metrics and, where wanted, a web page."""

    endpoint: str | None = None
    """Serve probes and metrics there: HOST:PORT such as 127.0.0.1:9464, or unix:PATH. By default nothing is served."""
    endpoint_page: bool = False
    """Have a web page there, too."""
    endpoint_token_file: str | None = None
    """Whoever asks has to give the token in this file. Needed where other machines can ask."""

    @property
    def typed(self) -> TypedSettings:
        """What was given, as settings by their keys."""
        given = {"endpoint": self.endpoint, "endpoint-token-file": self.endpoint_token_file}
        page: TypedSettings = (("endpoint-page", "true"),) if self.endpoint_page else ()
        return (*((name, text) for name, text in given.items() if text is not None), *page)


@attrs.frozen(kw_only=True)
class RunOptions:
    """The options of `run`."""

    target: str
    mode: Mode
    seconds: float | None
    await_peers: bool
    warm: bool
    policies: Policies
    shared: Options
    settings: TypedSettings
    reload_timeout: float | None = None
    endpoint: EndpointOptions = EndpointOptions()

    @property
    def typed(self) -> TypedSettings:
        """All that was given, as settings by their keys."""
        return typed_run(
            self.shared,
            self.policies,
            self.await_peers,
            self.warm,
            self.settings,
            self.reload_timeout,
            self.endpoint,
        )


def typed_run(
    shared: Options,
    policies: Policies,
    await_peers: bool,
    warm: bool,
    settings: TypedSettings,
    reload_timeout: float | None = None,
    endpoint: EndpointOptions = EndpointOptions(),
) -> TypedSettings:
    """Return the options of a run as settings by their keys."""
    texts = {"gateway-policy": policies.gateway_policy, "plugin-policy": policies.plugin_policy}
    if reload_timeout is not None:
        texts["reload-timeout"] = repr(reload_timeout)
    flags = {"await-peer": await_peers, "warm": warm}
    return (
        *shared.typed,
        *endpoint.typed,
        *((name, text) for name, text in texts.items() if text is not None),
        *((name, "true") for name, given in flags.items() if given),
        *settings,
    )
