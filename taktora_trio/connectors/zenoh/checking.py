"""Checks what a connector's options name, before anything is started."""

from __future__ import annotations

from taktora_trio.connectors.zenoh.configuring import MODE_DIFFERS, configuration, own_text, shown_config
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.probe import Question, ask, check_installed
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["check_files"]


def check_files(options: ZenohOptions) -> None:
    """Raise `ConfigError` if the library is missing, a file can't be used, or a login is incomplete."""
    check_installed()
    if options.user is not None and options.password is None:
        raise ConfigError(
            f"the Zenoh user {escaped(options.user)!r} has no password: give it by --zenoh-password-file, or by"
            " TAKTORA_ZENOH_PASSWORD"
        )
    if options.ca_file or options.cert_file:
        from taktora_trio.connectors.certificates import tls_context  # with it comes OpenSSL

        tls_context(options.ca_file, options.cert_file, options.key_file)
    if options.cert_file is None and options.zenoh_config is None:
        for endpoint in options.listeners:
            if endpoint.is_tls:
                raise ConfigError(f"to listen at {endpoint} takes a certificate: give cert_file and key_file")
    if options.zenoh_config is not None:
        _check_config(options)


def _check_config(options: ZenohOptions) -> None:
    answer = ask(Question(text=own_text(options), values=configuration(options)))
    if answer.error:
        raise ConfigError(f"{shown_config(options)} is refused: {answer.error}")
    if answer.mode not in (None, options.mode):
        raise ConfigError(f"{shown_config(options)}: {MODE_DIFFERS.format(own=answer.mode, wanted=options.mode)}")
