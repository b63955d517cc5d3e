"""The files of TLS, as a connector's options name them, made into a context."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taktora_trio.errors import ConfigError

if TYPE_CHECKING:
    import ssl

__all__ = ["tls_context"]


def tls_context(
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    *,
    minimum: Literal["1.2", "1.3"] = "1.2",
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """Return a client's context. Raises `ConfigError` if a file can't be used."""
    import ssl  # with it comes OpenSSL, 5 MB, which no other process needs

    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"the CA file {ca_file} can't be used: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if cert_file:
        try:
            # A key with a password would have OpenSSL ask at the terminal, where nobody is.
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
        except (OSError, ssl.SSLError, ValueError) as exc:
            key = f" with the key {key_file}" if key_file else ""
            raise ConfigError(f"the client certificate {cert_file}{key} can't be used: {exc}") from exc
    elif key_file:
        raise ConfigError(f"there is a key_file {key_file}, but no cert_file: give both")
    return context
