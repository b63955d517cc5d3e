"""The router that the other tests rely on: stopped and started at will, and as strict as it is told to be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
import zenoh

from taktora_trio.errors import ConfigError
from taktora_trio.testing.server import free_port
from taktora_trio.testing.zenoh.router import RouterTls, ZenohRouter, open_router

pytestmark = pytest.mark.zenoh


@contextmanager
def guest(endpoint: str, more: Mapping[str, Any] | None = None) -> Iterator[zenoh.Session]:
    """A client of the router. Raises `zenoh.ZError`."""
    config = zenoh.Config()
    for path, value in {
        "mode": "client",
        "connect/endpoints": [endpoint],
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
        **(more or {}),
    }.items():
        config.insert_json5(path, json.dumps(value))
    with zenoh.open(config) as session:
        yield session


def carries(endpoint: str, more: Mapping[str, Any] | None = None) -> bool:
    """Return whether one client gets another one's answer. Raises `zenoh.ZError` if they can't connect."""
    with guest(endpoint, more) as one, guest(endpoint, more) as other:
        other.declare_queryable("a/b", lambda query: query.reply("a/b", b"yes"))
        while not (replies := list(one.get("a/*", timeout=5))):  # the router has not told of it yet
            pass
        return [reply.ok.payload.to_bytes() for reply in replies if reply.ok] == [b"yes"]


async def test_stopped_and_started_it_is_where_it_was(router: ZenohRouter) -> None:
    for _ in range(2):
        assert await trio.to_thread.run_sync(carries, router.endpoint)
        await router.stop()
        with pytest.raises(zenoh.ZError):
            await trio.to_thread.run_sync(carries, router.endpoint)
        await router.start()
    assert router.log.read_text() == ""


async def test_with_users_it_takes_nobody_else(tmp_path: Path) -> None:
    def as_user(user: str, password: str) -> dict[str, str]:
        return {"transport/auth/usrpwd/user": user, "transport/auth/usrpwd/password": password}

    async with open_router(tmp_path, users={"plant": "secret", "other": "hidden"}) as router:
        for login in (as_user("plant", "secret"), as_user("other", "hidden")):
            assert await trio.to_thread.run_sync(carries, router.endpoint, login)
        for login in ({}, as_user("plant", "hidden"), as_user("nobody", "secret")):
            with pytest.raises(zenoh.ZError):
                await trio.to_thread.run_sync(carries, router.endpoint, login)


@pytest.mark.parametrize("asks_for_certificates", [False, True])
async def test_with_tls(tmp_path: Path, asks_for_certificates: bool) -> None:
    ca, certificate, ca_file = trustme.CA(), tmp_path / "cert.pem", tmp_path / "ca.pem"
    key = tmp_path / "key.pem"
    issued = ca.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    ca.cert_pem.write_to_path(ca_file)
    tls = RouterTls(certificate, key, ca_file if asks_for_certificates else None)
    of_ca: dict[str, Any] = {"transport/link/tls/root_ca_certificate": str(ca_file)}
    of_client = {
        "transport/link/tls/enable_mtls": True,
        "transport/link/tls/connect_certificate": str(certificate),
        "transport/link/tls/connect_private_key": str(key),
    }
    async with open_router(tmp_path, tls=tls) as router:
        assert router.endpoint.startswith("tls/")

        async def works(more: Mapping[str, Any]) -> bool:
            return await trio.to_thread.run_sync(carries, router.endpoint, more)

        assert await works(of_ca | of_client)
        with pytest.raises(zenoh.ZError):
            await works({})
        if asks_for_certificates:
            with pytest.raises(zenoh.ZError):
                await works(of_ca)
        else:
            assert await works(of_ca)


async def test_a_configuration_that_it_refuses_is_an_error_and_in_its_log(tmp_path: Path) -> None:
    router = ZenohRouter(free_port(), tmp_path, settings={"transport/nonsense": 3})
    with pytest.raises(ConfigError, match="a server ended at once"):
        await router.start()
    assert "unknown field `nonsense`" in router.log.read_text()
