"""Routers that demand TLS, certificates, or a user and a password: who has them gets in, and nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

from taktora_trio import (
    ConnectFailed,
    ConnectorError,
    ConnectRefused,
    Inbound,
    Outbound,
    RawCodec,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.server import free_port
from taktora_trio.testing.zenoh.router import RouterTls, ZenohRouter, open_router
from tests.zenoh.serving import served

pytestmark = pytest.mark.zenoh

OUT = Outbound("out", bytes, ZenohRouting("login/out"))
IN = Inbound("in", bytes, ZenohRouting("login/**"))


@attrs.frozen
class Pki:
    """An authority, and certificates by it: of a router, and of a client."""

    folder: Path
    ca: trustme.CA = attrs.field(factory=trustme.CA)

    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return path

    def issue(self, name: str, *identities: str, **options: Any) -> tuple[Path, Path, Path]:
        """Return the paths of a certificate, of its key, and of both in one file."""
        issued = self.ca.issue_cert(*identities, **options)
        paths = tuple(self.folder / f"{name}.{kind}" for kind in ("pem", "key", "both"))
        issued.cert_chain_pems[0].write_to_path(paths[0])
        issued.private_key_pem.write_to_path(paths[1])
        issued.private_key_and_cert_chain_pem.write_to_path(paths[2])
        return paths[0], paths[1], paths[2]


def driver(options: ZenohOptions) -> Driver:
    return Driver(ZenohConnector([OUT, IN], options=options, codec=RawCodec()), "client")


async def carries(options: ZenohOptions) -> bool:
    """Return whether one client gets what another one sends. Raises `ConnectFailed`."""
    one, other = driver(options), driver(options)
    async with one.connected(), other.connected() as sending:
        other.publish(sending, "out", other.envelopes("out", b"x"))
        return [message.payload for message in await one.take(1)] == [b"x"]


async def refuses(options: ZenohOptions, error: type[ConnectorError] = ConnectRefused) -> str:
    with trio.fail_after(10), pytest.raises(error) as refused:
        async with driver(options).connected():
            pass
    text = str(refused.value)
    assert text.isprintable()
    assert "/root" not in text
    return text


@contextlib.asynccontextmanager
async def tls_router(pki: Pki, *, asks: bool = False, **issued: Any) -> AsyncIterator[ZenohRouter]:
    certificate, key, _ = pki.issue("router", "127.0.0.1", **issued)
    tls = RouterTls(certificate, key, pki.ca_file() if asks else None)
    async with open_router(pki.folder, tls=tls) as router:
        yield router


async def test_tls_with_the_right_authority_and_no_other(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    (tmp_path / "other").mkdir()
    async with tls_router(pki) as router:
        options = ZenohOptions(connect=router.endpoint, ca_file=pki.ca_file())
        assert await carries(options)
        for wrong in (
            attrs.evolve(options, ca_file=Pki(tmp_path / "other").ca_file()),
            attrs.evolve(options, ca_file=None),
            attrs.evolve(options, connect=router.endpoint.replace("tls/", "tcp/"), connect_timeout=1),
        ):
            assert "refuses this node: its login, or its certificate" in await refuses(wrong)


async def test_an_expired_certificate_is_not_trusted(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    async with tls_router(pki, not_after=datetime.now(UTC) - timedelta(days=1)) as router:
        await refuses(ZenohOptions(connect=router.endpoint, ca_file=pki.ca_file()))


async def test_mutual_tls(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pki = Pki(tmp_path)
    certificate, key, both = pki.issue("client", "client@example.org")
    of_other, key_of_other, _ = Pki(tmp_path / "other").issue("client", "client@example.org")
    async with tls_router(pki, asks=True) as router:
        options = ZenohOptions(connect=router.endpoint, ca_file=pki.ca_file())
        assert await carries(attrs.evolve(options, cert_file=certificate, key_file=key))
        assert await carries(attrs.evolve(options, cert_file=both))
        await refuses(options)
        await refuses(attrs.evolve(options, cert_file=of_other, key_file=key_of_other))


async def test_a_node_that_listens_by_tls_takes_only_those_with_a_certificate(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    certificate, key, _ = pki.issue("node", "127.0.0.1")
    endpoint = f"tls/127.0.0.1:{free_port()}"
    client = ZenohOptions(connect=endpoint, ca_file=pki.ca_file())
    known = attrs.evolve(client, cert_file=certificate, key_file=key)
    listening = driver(attrs.evolve(known, mode="router", connect=None, listen=endpoint, scouting=False))

    async def listen() -> None:
        async with served(listening), listening.connected():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        with trio.fail_after(10):
            while not await _comes(driver(known), listening):
                pass  # it does not listen yet
        await refuses(client)
        nursery.cancel_scope.cancel()


async def _comes(sending: Driver, listening: Driver) -> bool:
    """Send until it comes. Return false if there is no connection."""
    try:
        async with sending.connected() as connection:
            while True:
                sending.publish(connection, "out", sending.envelopes("out", b"x"))
                with trio.move_on_after(0.1):  # the node's subscription is not known here yet
                    return [message.payload for message in await listening.take(1)] == [b"x"]
    except (ConnectFailed, ConnectRefused):
        return False


async def test_user_and_password(tmp_path: Path) -> None:
    async with open_router(tmp_path, users={"plant": "säcret"}) as router:
        options = ZenohOptions(connect=router.endpoint, user="plant", password="säcret")
        assert await carries(options)
        for wrong in (
            attrs.evolve(options, password="other"),
            attrs.evolve(options, user="nobody"),
            attrs.evolve(options, user=None, password=None),
        ):
            text = await refuses(wrong)
            assert "`taktora-trio doctor` finds out" in text
            assert "other" not in text
    assert "säcret" not in repr(options)


async def test_nobody_there_says_so_at_once() -> None:
    port = free_port()
    with trio.fail_after(2):
        text = await refuses(ZenohOptions(connect=f"tcp/127.0.0.1:{port}", connect_timeout=10), ConnectFailed)
    assert text == f"tcp/127.0.0.1:{port} can't be reached (Connection refused)"
    assert "can't be reached" in await refuses(ZenohOptions(connect="tcp/nowhere.invalid:7447"), ConnectFailed)


async def test_its_own_file_configures_what_is_no_option(tmp_path: Path) -> None:
    async with open_router(tmp_path, users={"plant": "secret"}) as router:
        config = tmp_path / "own.json5"
        config.write_text(
            f'{{connect: {{endpoints: ["{router.endpoint}"]}}, // a comment\n'
            ' transport: {auth: {usrpwd: {user: "plant", password: "secret"}}}}'
        )
        options = ZenohOptions(zenoh_config=config)
        assert await carries(options)
        await refuses(attrs.evolve(options, connect=f"tcp/127.0.0.1:{free_port()}"), ConnectFailed)  # an option wins
        ZenohConnector([OUT], options=options).check_files()
