"""The handshake of TLS as a gateway makes it; if it fails, once more without verifying, to say what is wrong."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import trio

from taktora_trio.connectors.examining.certificate import Certificate, read_certificate
from taktora_trio.connectors.finding import Finding, fail, ok, warn
from taktora_trio.connectors.sockets import SocketAddress, open_any, why
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["TlsServer", "examine_tls"]

_SOON = timedelta(days=21)
# X509_V_ERR_... of OpenSSL (x509_vfy.h)
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_SOME_NAMES = 6


@attrs.frozen(kw_only=True)
class TlsServer:
    """The other side, and what this side has for it."""

    what: str
    """What texts call it: `broker`, `router`."""
    host: str
    """The name that its certificate is to have."""
    ca_file: Path | None
    cert_file: Path | None
    context: Callable[[], ssl.SSLContext | None]
    """Makes the context, as a gateway does. Raises `ConfigError`."""
    within: float
    """Seconds for a handshake."""
    no_tls: str
    """What to check where no TLS is spoken."""


async def examine_tls(server: TlsServer, endpoint: SocketAddress) -> list[Finding]:
    """Return what was found of the other side's certificate, and of the client's own."""
    own = _own_certificate(server)
    try:
        context = server.context()
    except ConfigError as exc:
        return [*own, fail("tls", str(exc), "give a file that this user can read, in PEM")]
    assert context is not None
    try:
        with trio.fail_after(server.within):
            version, der = await _handshake(server, endpoint, context)
    except trio.TooSlowError:
        text = f"no answer within {server.within:g} s: whatever listens there may speak no TLS"
        return [*own, fail("tls", text, server.no_tls)]
    except (trio.BrokenResourceError, OSError, ValueError) as exc:
        return [*own, await _explained(server, endpoint, exc.__cause__ or exc)]
    return [*own, _fine(server, version, der)]


async def _handshake(server: TlsServer, endpoint: SocketAddress, context: ssl.SSLContext) -> tuple[str, bytes]:
    """Return the version of TLS, and the other side's certificate in DER. The caller bounds the time."""
    _, socket = await open_any([endpoint])
    stream = trio.SSLStream(socket, context, server_hostname=server.host, https_compatible=True)
    try:
        await stream.do_handshake()
        return str(stream.version()), stream.getpeercert(binary_form=True) or b""
    finally:
        await trio.aclose_forcefully(stream)


def _fine(server: TlsServer, version: str, der: bytes) -> Finding:
    try:
        certificate = read_certificate(der)
    except ValueError:
        return ok("tls", f"{version}; the certificate is valid")
    text = f"{version}; certificate for {_names(certificate)}, by '{certificate.issuer}', {_until(certificate)}"
    if certificate.ends - datetime.now(UTC) < _SOON:
        return warn("tls", text, f"renew it at the {server.what} before it ends: from then on no gateway can connect")
    return ok("tls", text)


async def _explained(server: TlsServer, endpoint: SocketAddress, cause: BaseException) -> Finding:
    if not isinstance(cause, ssl.SSLCertVerificationError):
        if isinstance(cause, ssl.SSLError) and "WRONG_VERSION" in (cause.reason or ""):
            return fail("tls", "whatever listens there speaks no TLS", server.no_tls)
        if not isinstance(cause, ssl.SSLError):
            text = f"the connection ended in the handshake ({why(cause)}): the port may have no TLS"
            return fail("tls", text, f"{server.no_tls}; else the {server.what}'s log says why")
        return fail(
            "tls", escaped(str(cause)), f"the {server.what}'s log says what it refuses: a version, or our certificate"
        )
    certificate = await _look_at(server, endpoint)
    if certificate is None:
        return fail("tls", f"the certificate does not verify: {escaped(cause.verify_message)}", _trust(server))
    now = datetime.now(UTC)
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if cause.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        text = f"the certificate is for {_names(certificate)}, and not for {server.host}"
        return fail(
            "tls", text, "connect by a name that it has, or have one made with this name in it (subjectAltName)"
        )
    if cause.verify_code == _EXPIRED:
        # It may be an authority's that has ended.
        whose = "the certificate" if certificate.ends < now else f"a certificate above the {server.what}'s"
        return fail(
            "tls", f"{whose} has ended: it is valid {_until(certificate)}", f"renew it at the {server.what}; {clock}"
        )
    if cause.verify_code == _NOT_YET:
        begins = f"the certificate begins at {certificate.begins:%Y-%m-%d %H:%M} UTC"
        return fail("tls", begins, f"set the clock, here or where it was made; {clock}")
    trusted = f"the authorities in {server.ca_file}" if server.ca_file else "this system's authorities"
    text = (
        f"the certificate is by '{certificate.issuer}', and {trusted} do not vouch for it"
        f" ({escaped(cause.verify_message)})"
    )
    return fail("tls", text, _trust(server))


def _trust(server: TlsServer) -> str:
    return f"give the authority's certificate by --ca-file, or have the {server.what} send those between it and its own"


async def _look_at(server: TlsServer, endpoint: SocketAddress) -> Certificate | None:
    """Return the other side's certificate, unverified. Nothing is sent behind the handshake."""
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    with trio.move_on_after(server.within):
        try:
            return read_certificate((await _handshake(server, endpoint, anything))[1])
        except (trio.BrokenResourceError, OSError, ValueError):
            return None
    return None


def _own_certificate(server: TlsServer) -> list[Finding]:
    if server.cert_file is None:
        return []
    try:
        text = server.cert_file.read_text()
        end = "-----END CERTIFICATE-----"
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
        certificate = read_certificate(ssl.PEM_cert_to_DER_cert(first))
    except (OSError, ValueError):
        return []  # `tls_context` says what is wrong with it
    left = certificate.ends - datetime.now(UTC)
    text = f"the client's certificate is valid {_until(certificate)}"
    if left < timedelta(0):
        return [fail("certificate", text, f"renew {server.cert_file}")]
    return [warn("certificate", text, f"renew {server.cert_file}") if left < _SOON else ok("certificate", text)]


def _names(certificate: Certificate) -> str:
    names = ", ".join(certificate.names[:_SOME_NAMES]) or "no name at all"
    more = len(certificate.names) - _SOME_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _until(certificate: Certificate) -> str:
    days = (certificate.ends - datetime.now(UTC)).days
    how_long = f"{days} days left" if days >= 0 else f"{-days} days ago"
    return f"until {certificate.ends:%Y-%m-%d %H:%M} UTC ({how_long})"
