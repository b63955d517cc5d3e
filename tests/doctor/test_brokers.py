"""What `doctor` says of a broker: each way in which one can be unreachable, untrusted, unwilling, or no broker."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

from taktora_trio import Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound
from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.examining.reaching import _RESOLVE_WITHIN
from taktora_trio.connectors.finding import Finding
from taktora_trio.connectors.mqtt.diagnosis import diagnose
from tests.brokers.hostile import Peer, Script, open_hostile_broker
from tests.brokers.packets import CONNACK, SUBACK, SUBSCRIBE, packet
from tests.mosquitto import find_mosquitto, free_port, open_mosquitto

IN = Inbound("in", bytes, MqttRouting("doctor/in/+", qos=2))
OUT = Outbound("out", bytes, MqttRouting("doctor/out", qos=1, retain=True), max_payload=5000)
SECRET = "s3cr3t"
SERVES = Callable[[trio.SocketStream], Any]


async def found(url: str, *channels: ChannelDescriptor[Any], **options: Any) -> list[Finding]:
    declared = MqttOptions(broker=url, client_id="house", **{"connect_timeout": 5.0, **options})
    findings = await diagnose(declared, channels)
    assert all(finding.remedy for finding in findings if finding.status != "ok")
    assert not any(SECRET in f"{finding}" for finding in findings)
    return findings


def summary(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.check: finding.status for finding in findings}


def failure(findings: Sequence[Finding]) -> Finding:
    [failed] = [finding for finding in findings if finding.status == "fail"]
    assert failed is findings[-1]  # what depends on it is not tried
    return failed


@contextlib.asynccontextmanager
async def open_server(serve: SERVES) -> AsyncIterator[int]:
    """Serve each connection by this, on a port of its own."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def hear_only(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async for _ in stream:
            pass


# Name and TCP


async def test_a_name_that_there_is_not() -> None:
    failed = failure(await found("mqtt://nowhere.invalid"))
    assert failed.check == "name"
    assert "nowhere.invalid" in failed.text
    assert "resolv.conf" in failed.remedy


@attrs.define
class Resolver(trio.abc.HostnameResolver):
    answers: Sequence[str] | None
    """`None` for a name server that never answers."""

    async def getaddrinfo(self, host: Any, port: Any, *more: Any, **fields: Any) -> Any:
        if self.answers is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.answers or ()]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_a_name_server_that_never_answers(autojump_clock: trio.testing.MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(None))
    failed = failure(await found("mqtt://broker.example"))
    assert (failed.check, trio.current_time()) == ("name", _RESOLVE_WITHIN)


async def test_a_closed_port() -> None:
    port = free_port()
    failed = failure(await found(f"mqtt://127.0.0.1:{port}"))
    assert failed.check == "tcp"
    assert f"its port ({port})" in failed.remedy


async def test_a_port_at_which_nobody_takes_the_connection() -> None:
    """As behind a firewall that drops packets: here a queue of connections that is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket())
        waiting.connect(listener.getsockname())
        failed = failure(await found(f"mqtt://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.2))
    assert failed.check == "tcp"
    assert "no answer within 0.2 s" in failed.text
    assert "firewall" in failed.remedy


async def test_one_of_several_addresses_is_dead() -> None:
    async with open_server(hear_only) as port:
        trio.socket.set_custom_hostname_resolver(Resolver(["127.0.0.2", "127.0.0.1"]))
        findings = await found(f"mqtt://broker.example:{port}", connect_timeout=0.2)
    assert [(one.check, one.status) for one in findings[:3]] == [("name", "ok"), ("tcp", "ok"), ("tcp", "warn")]
    assert "127.0.0.2: Connection refused" in findings[2].text


async def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    assert failure(await found(f"unix://{tmp_path}/away")).check == "socket"


# TLS


@attrs.frozen
class Tls:
    """A broker's certificate, and the authority that the gateway is to trust."""

    folder: Path
    authority: trustme.CA = attrs.field(factory=trustme.CA)

    @property
    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(path))
        return path

    def issue(self, *names: str, **fields: Any) -> Path:
        path = self.folder / "own.pem"
        self.authority.issue_cert(*names, **fields).private_key_and_cert_chain_pem.write_to_path(str(path))
        return path


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


@contextlib.asynccontextmanager
async def open_tls(certificate: Path) -> AsyncIterator[int]:
    """Something that speaks TLS, and is silent behind it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            await secure.do_handshake()
            async for _ in secure:
                pass

    async with open_server(serve) as port:
        yield port


NOW = datetime.now(UTC)


async def failed_tls(tls: Tls, certificate: Path, host: str = "localhost") -> Finding:
    async with open_tls(certificate) as port:
        failed = failure(await found(f"mqtts://{host}:{port}", ca_file=tls.ca_file))
    assert failed.check == "tls"
    return failed


async def test_an_authority_that_is_not_trusted(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Tls(tmp_path / "other", trustme.CA(organization_name="Other Ltd", organization_unit_name="their authority"))
    failed = await failed_tls(tls, other.issue("localhost"))
    assert f"by 'their authority', and the authorities in {tls.ca_file} do not vouch for it" in failed.text
    assert "--ca-file" in failed.remedy


async def test_a_certificate_that_has_ended(tls: Tls) -> None:
    begin, end = NOW - timedelta(days=40), NOW - timedelta(days=9, hours=1)
    failed = await failed_tls(tls, tls.issue("localhost", not_before=begin, not_after=end))
    assert "the certificate has ended" in failed.text
    assert f"{end:%Y-%m-%d %H:%M} UTC (10 days ago)" in failed.text
    assert "this machine's clock says" in failed.remedy


async def test_a_certificate_that_has_not_begun(tls: Tls) -> None:
    begin = NOW + timedelta(days=3)
    failed = await failed_tls(tls, tls.issue("localhost", not_before=begin, not_after=begin + timedelta(days=9)))
    assert f"begins at {begin:%Y-%m-%d %H:%M} UTC" in failed.text
    assert "clock" in failed.remedy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_for_others(tls: Tls, host: str) -> None:
    failed = await failed_tls(tls, tls.issue("broker.example", "*.plant.example", "10.0.0.7"), host)
    assert f"the certificate is for broker.example, *.plant.example, 10.0.0.7, and not for {host}" in failed.text
    assert "subjectAltName" in failed.remedy


async def test_no_tls_at_this_port(tls: Tls, tmp_path: Path) -> None:
    async def speak_http(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with open_server(speak_http) as port:
        failed = failure(await found(f"mqtts://localhost:{port}", ca_file=tls.ca_file))
        assert (failed.check, failed.text) == ("tls", "whatever listens there speaks no TLS")
    async with open_mosquitto(tmp_path) as broker:
        failed = failure(await found(f"mqtts://localhost:{broker.port}", ca_file=tls.ca_file))
        assert failed.check == "tls"
        assert "may have no TLS" in failed.text
    async with open_server(hear_only) as port:
        failed = failure(await found(f"mqtts://localhost:{port}", ca_file=tls.ca_file, connect_timeout=0.2))
        assert "may speak no TLS" in failed.text


async def test_a_ca_file_that_is_away(tls: Tls, tmp_path: Path) -> None:
    async with open_server(hear_only) as port:
        failed = failure(await found(f"mqtts://localhost:{port}", ca_file=tmp_path / "away.pem"))
    assert failed.check == "tls"
    assert "away.pem can't be used" in failed.text


async def test_a_broker_that_wants_a_certificate_of_ours(tls: Tls, tmp_path: Path) -> None:
    server = tls.issue("localhost", not_after=NOW + timedelta(days=5))
    lines = [f"certfile {server}", f"keyfile {server}", f"cafile {tls.ca_file}", "require_certificate true"]
    async with open_mosquitto(tmp_path, [*lines, "user root"]) as broker:
        url = f"mqtts://localhost:{broker.port}"
        findings = await found(url, ca_file=tls.ca_file)
        assert summary(findings)["tls"] == "warn"  # it ends soon
        assert "cert-file" in failure(findings).remedy
        (tmp_path / "client").mkdir()
        own = Tls(tmp_path / "client", tls.authority).issue("me@here", not_after=NOW + timedelta(days=90, hours=1))
        findings = await found(url, ca_file=tls.ca_file, cert_file=own)
    assert summary(findings) == {"name": "ok", "tcp": "ok", "certificate": "ok", "tls": "warn", "login": "ok"} | {
        "presence": "ok",
        "limits": "ok",
    }
    assert "90 days left" in findings[2].text
    assert "4 days left" in findings[3].text


# Login


async def test_a_refused_login_and_a_right_one(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    tool = find_mosquitto("mosquitto_passwd")
    await trio.run_process([tool, "-b", str(passwords), "house", SECRET], capture_stderr=True)
    async with open_mosquitto(tmp_path, [f"password_file {passwords}", "user root"], anonymous=False) as broker:
        for login, who in ((f"house:{SECRET}x@", "user 'house', with a password"), ("", "without a user name")):
            failed = failure(await found(f"mqtt://{login}127.0.0.1:{broker.port}"))
            assert failed.check == "login"
            assert "refused the login" in failed.text
            assert who in failed.text
        findings = await found(f"mqtt://house:{SECRET}@127.0.0.1:{broker.port}", IN, OUT)
        assert {one.status for one in findings} == {"ok"}


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 64])
async def test_whatever_listens_there_speaks_no_mqtt(said: bytes) -> None:
    async def speak(stream: trio.SocketStream) -> None:
        await stream.send_all(said)
        await hear_only(stream)

    async with open_server(speak) as port:
        failed = failure(await found(f"mqtt://127.0.0.1:{port}"))
    assert failed.check == "login"
    assert "speaks no MQTT" in failed.text
    assert "mqtts:// 8883" in failed.remedy


async def test_a_broker_that_never_answers() -> None:
    async with open_server(hear_only) as port:
        failed = failure(await found(f"mqtt://127.0.0.1:{port}", connect_timeout=0.2))
    assert failed.check == "login"
    assert "hangs" in failed.remedy


async def test_no_websocket_at_this_address(tmp_path: Path) -> None:
    async with open_mosquitto(tmp_path) as broker:
        assert failure(await found(f"ws://127.0.0.1:{broker.port}/mqtt")).check == "login"


# What the broker allows and announces


async def test_it_is_a_guest_that_disturbs_nothing(tmp_path: Path) -> None:
    """The gateway's session, its retained presence and its connection are as before."""
    async with open_mosquitto(tmp_path) as broker:
        url, topic = f"mqtt://127.0.0.1:{broker.port}", "taktora/house/health"
        connector = MqttConnector([IN, OUT], options=MqttOptions(broker=url, client_id="house"))
        nothing = {one.check: one.text for one in await connector.diagnose("anything")}["presence"]
        assert "nothing is retained" in nothing
        said = ["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-r", "-m", "Up\x1b"]
        await trio.run_process(said)
        async with open_session_of("house", url) as session:
            texts = {one.check: one.text for one in await connector.diagnose("anything")}
            assert texts["presence"] == f"retained at {topic!r}: Up\\x1b"
            assert session.lost is None


@contextlib.asynccontextmanager
async def open_session_of(client_id: str, url: str) -> AsyncIterator[Any]:
    from taktora_trio.connectors.mqtt.sessions import open_session

    options = MqttOptions(broker=url, client_id=client_id, persistent=True)
    async with open_session(options, lambda message: None) as session:
        yield session


def announcing(properties: bytes, granted: bytes) -> Script:
    """A broker of MQTT 5 that announces these, and grants or refuses each subscription so."""

    async def script(peer: Peer) -> None:
        await peer.connect()
        assert peer.is_v5
        await peer.send(packet(CONNACK, b"\0\0" + bytes([len(properties)]) + properties))
        while True:
            asked = await peer.read(SUBSCRIBE)
            await peer.send(packet(SUBACK, asked.body[:2] + b"\0" + granted))

    return script


async def test_what_is_announced_is_compared_with_the_channels() -> None:
    # Receive maximum 7, maximum QoS 0, no retained messages, packets of up to 4096 bytes, no wildcards.
    properties = b"\x21\0\x07" + b"\x24\0" + b"\x25\0" + b"\x27\0\0\x10\0" + b"\x28\0"
    large = Outbound("large", bytes, MqttRouting("doctor/large"), max_payload=5000)
    async with open_hostile_broker([announcing(properties, b"\0")]) as broker:
        findings = await found(f"mqtt://127.0.0.1:{broker.port}", IN, OUT, large, protocol="5")
    limits = [one for one in findings if one.check == "limits"]
    assert limits[0].text.startswith("QoS up to 0; packets up to 4,096 bytes; 7 in flight")
    assert "no retained messages, no wildcards" in limits[0].text
    assert [(one.status, one.text.partition(":")[0]) for one in limits[1:]] == [
        ("fail", "channel 'in'"),
        ("fail", "channel 'out'"),
        ("warn", "channel 'large' may send 5,000 bytes, and the broker takes packets of 4,096"),
        ("warn", "the broker keeps no retained messages, and so no presence"),
    ]


@pytest.mark.parametrize(("granted", "status"), [(b"\x87", "fail"), (b"\1", "warn"), (b"\2", "ok")])
async def test_subscriptions_are_tried(granted: bytes, status: str) -> None:
    shared = Inbound("shared", bytes, MqttRouting("$share/group/doctor/shared", qos=1))
    async with open_hostile_broker([announcing(b"", granted)]) as broker:
        findings = await found(f"mqtt://127.0.0.1:{broker.port}", IN, shared, protocol="5", presence=None)
    tried = [one for one in findings if one.check == "subscribe"]
    assert tried[0].status == status
    assert "shared" not in "".join(one.text for one in tried)  # whose messages others would miss


async def test_each_of_several_brokers_is_examined(tmp_path: Path) -> None:
    async with open_mosquitto(tmp_path) as broker:
        closed = free_port()
        findings = await found(f"mqtt://127.0.0.1:{closed},mqtt://house:{SECRET}@127.0.0.1:{broker.port}")
    by_subject = {one.subject for one in findings}
    assert by_subject == {f"mqtt://127.0.0.1:{closed}", f"mqtt://house@127.0.0.1:{broker.port}"}
    assert [one.subject for one in findings if one.status == "fail"] == [f"mqtt://127.0.0.1:{closed}"]


# A trial


async def tried(url: str, topic: str = "doctor/try", **options: Any) -> list[tuple[str, str]]:
    declared = MqttOptions(broker=url, client_id="house", **{"connect_timeout": 5.0, **options})
    return [(one.status, one.text) for one in await diagnose(declared, (), topic) if one.check == "try"]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_messages_come_back_and_nothing_stays(tmp_path: Path, protocol: Any) -> None:
    async with open_mosquitto(tmp_path) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        assert await tried(url, protocol=protocol) == [
            ("ok", "messages to 'doctor/try' come back: QoS 0, QoS 1, QoS 2, retained")
        ]
        assert await tried(url, protocol=protocol) != []  # else it had found what it has left there itself
        await trio.run_process(["mosquitto_pub", "-p", str(broker.port), "-t", "doctor/try", "-r", "-m", "somebody's"])
        assert await tried(url, protocol=protocol) == [("fail", "there is a retained message at 'doctor/try'")]
        heard = await trio.run_process(
            ["mosquitto_sub", "-p", str(broker.port), "-t", "doctor/try", "-C", "1"], capture_stdout=True
        )
        assert heard.stdout == b"somebody's\n"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_user_who_may_not_publish(tmp_path: Path, protocol: Any) -> None:
    """With MQTT 3.1.1 the broker says that it has taken the message, and drops it."""
    rights = tmp_path / "rights"
    rights.write_text("topic read #\n")
    rights.chmod(0o600)
    async with open_mosquitto(tmp_path, [f"acl_file {rights}", "user root"]) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        found = await tried(url, protocol=protocol, connect_timeout=0.3)
    [(status, text)] = found
    assert status == "fail"
    assert "did not come back within 0.3 s" in text or "closed the connection" in text


async def test_without_a_login_nothing_is_tried() -> None:
    assert await tried(f"mqtt://127.0.0.1:{free_port()}") == []
