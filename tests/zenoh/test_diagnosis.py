"""What doctor says of routers: of each of its steps, when it works and when it does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio import ConfigError, Outbound, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.connectors.finding import Finding
from taktora_trio.testing.server import free_port
from taktora_trio.testing.zenoh.router import open_router
from tests.zenoh.test_login import Pki, tls_router

pytestmark = pytest.mark.zenoh

OUT = Outbound("out", int, ZenohRouting("a"))


async def found(options: ZenohOptions, trial: str | None = None) -> list[Finding]:
    findings = await ZenohConnector([OUT], options=options).diagnose("name", trial)
    for finding in findings:
        assert finding.text.isprintable()
        assert "/root" not in finding.text
        assert "secret" not in finding.text + finding.remedy
        assert finding.subject or finding.check == "scouting"
    return list(findings)


def checks(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.status) for finding in findings]


async def test_a_login_that_works_and_messages_that_come_back(tmp_path: Path) -> None:
    users = {"plant": "secret"}
    async with open_router(tmp_path, users=users, settings={"adminspace/enabled": True}) as router:
        options = ZenohOptions(connect=router.endpoint, user="plant", password="secret")
        findings = await found(options, "doctor/trial")
        assert checks(findings) == [("tcp", "ok"), ("login", "ok"), ("try", "ok")]
        assert "accepted as 'plant', by router " in findings[1].text
        assert " v1." in findings[1].text  # as the router says of itself
        assert {finding.subject for finding in findings} == {router.endpoint}
        for wrong in (attrs.evolve(options, password="secret2"), attrs.evolve(options, user=None, password=None)):
            *_, last = await found(wrong)
            assert (last.check, last.status) == ("login", "fail")
            assert "--zenoh-password-file" in last.remedy
        with pytest.raises(ConfigError, match="must be one concrete key"):
            await found(options, "doctor/*")


async def test_tls_of_each_kind(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    (tmp_path / "other").mkdir()
    certificate, key, _ = pki.issue("client", "client@example.org")
    async with tls_router(pki, asks=True) as router:
        options = ZenohOptions(connect=router.endpoint, ca_file=pki.ca_file(), cert_file=certificate, key_file=key)
        assert checks(await found(options)) == [("tcp", "ok"), ("certificate", "ok"), ("tls", "ok"), ("login", "ok")]
        *_, last = await found(attrs.evolve(options, cert_file=None, key_file=None))
        assert (last.check, last.status) == ("login", "fail")
        assert "set cert-file and key-file" in last.remedy
        *_, last = await found(attrs.evolve(options, ca_file=Pki(tmp_path / "other").ca_file()))
        assert (last.check, last.status) == ("tls", "fail")
        assert "do not vouch for it" in last.text
        *_, last = await found(attrs.evolve(options, connect=f"tls/localhost:{router.port}"))
        assert "the certificate is for 127.0.0.1, and not for localhost" in last.text


async def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    async with tls_router(pki, not_after=datetime.now(UTC) - timedelta(days=1)) as router:
        *_, last = await found(ZenohOptions(connect=router.endpoint, ca_file=pki.ca_file()))
        assert "the certificate has ended" in last.text
        assert "renew it at the router" in last.remedy


async def test_nobody_there_no_such_name_and_somebody_else() -> None:
    port = free_port()
    mute = await trio.open_tcp_listeners(0, host="127.0.0.1")
    at_mute = f"tcp/127.0.0.1:{mute[0].socket.getsockname()[1]}"
    options = ZenohOptions(connect=[f"tcp/127.0.0.1:{port}", "tcp/nowhere.invalid:7447", at_mute], connect_timeout=0.5)
    try:
        refused, unknown, reached, silent = await found(options)
    finally:
        await mute[0].aclose()
    assert (refused.check, refused.status) == ("tcp", "fail")
    assert refused.remedy == f"start the router, or check its port ({port}) and the addresses that it listens at"
    assert (unknown.check, unknown.status) == ("name", "fail")
    assert (reached.check, silent.check, silent.status) == ("tcp", "login", "fail")
    assert "does not answer as Zenoh does" in silent.remedy


async def test_what_its_own_configuration_names_is_examined(tmp_path: Path) -> None:
    config = tmp_path / "own.json5"
    async with open_router(tmp_path, users={"plant": "secret"}) as router:
        login = {"usrpwd": {"user": "plant", "password": "secret"}}
        named = {"connect": {"endpoints": {"client": [router.endpoint], "peer": []}}, "transport": {"auth": login}}
        _write(config, named)
        findings = await found(ZenohOptions(zenoh_config=config))
        assert checks(findings) == [("tcp", "ok"), ("login", "ok")]
        assert "as zenoh_config says" in findings[1].text
    _write(config, {"nonsense": 1})
    [finding] = await ZenohConnector([OUT], options=ZenohOptions(zenoh_config=config)).diagnose("name")
    assert (finding.check, finding.status) == ("configuration", "fail")
    assert "unknown field `nonsense`" in finding.text


def _write(path: Path, config: object) -> None:
    path.write_text(json.dumps(config))


async def test_scouting_that_finds_nobody_is_a_failure_where_it_is_needed(tmp_path: Path) -> None:
    # A group of its own, where nobody is.
    config = tmp_path / "own.json5"
    multicast = {"address": f"224.0.0.251:{free_port()}", "interface": "lo"}
    _write(config, {"scouting": {"multicast": multicast}})
    alone = ZenohOptions(connect=[], zenoh_config=config)
    assert checks(await found(alone)) == [("scouting", "fail")]
    assert checks(await found(attrs.evolve(alone, mode="peer", connect=None))) == [("scouting", "warn")]
    of_others = {f"scouting/multicast/{name}": value for name, value in {**multicast, "enabled": True}.items()}
    async with open_router(tmp_path, settings=of_others) as router:
        [finding] = await found(alone)
        assert (finding.check, finding.status) == ("scouting", "ok")
        assert f"router at {router.endpoint}" in finding.text
