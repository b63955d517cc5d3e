from __future__ import annotations

import contextlib
import re
import ssl
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Backoff, BrokerAddress, ConfigError, LastWill, MqttOptions
from taktora_trio.connectors.mqtt.topics import UNSENDABLE


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", BrokerAddress("host", 1883)),
        ("mqtts://host", BrokerAddress("host", 8883, tls=True)),
        ("mqtt://host:2000/", BrokerAddress("host", 2000)),
        ("mqtt://HOST.example", BrokerAddress("host.example", 1883)),
        ("mqtt://me@host", BrokerAddress("host", 1883, username="me")),
        ("mqtt://me:s3cret@host", BrokerAddress("host", 1883, username="me", password="s3cret")),
        ("mqtt://m%40e:s%3Acr%2Fet@host", BrokerAddress("host", 1883, username="m@e", password="s:cr/et")),
        ("mqtt://me:s:cr@et@host:1", BrokerAddress("host", 1, username="me", password="s:cr@et")),
        ("mqtt://[::1]", BrokerAddress("::1", 1883)),
        ("mqtts://me:s3cret@[fe80::1]:2000", BrokerAddress("fe80::1", 2000, True, "me", "s3cret")),
        ("mqtt://192.0.2.1:65535", BrokerAddress("192.0.2.1", 65535)),
        ("ws://host", BrokerAddress("host", 80, transport="websocket")),
        ("wss://me:s3cret@host:9001/mqtt", BrokerAddress("host", 9001, True, "me", "s3cret", "websocket", "/mqtt")),
        ("unix:///run/broker.sock", BrokerAddress("", 0, transport="unix", path="/run/broker.sock")),
        ("unix://me:s3cret@/a%20b", BrokerAddress("", 0, False, "me", "s3cret", "unix", "/a b")),
        ("MQTT://me:gr%C3%BCn@host", BrokerAddress("host", 1883, username="me", password="grün".encode())),
        ("mqtt://gr%C3%BCn:%FF%0A%00@host", BrokerAddress("host", 1883, username="grün", password=b"\xff\n\0")),
        ("mqtt://gr\udcc3\udcbcn:\udcff@host", BrokerAddress("host", 1883, username="grün", password=b"\xff")),
        ("mqtt://me:@host", BrokerAddress("host", 1883, username="me", password=b"")),
        ("mqtt://:s3cret@host", BrokerAddress("host", 1883, password="s3cret")),
        ("mqtt://[fe80::1%25eth0]:1", BrokerAddress("fe80::1%eth0", 1)),
        ("mqtt://[fe80::1%eth0]:1", BrokerAddress("fe80::1%eth0", 1)),
        ("mqtt://bücher.example", BrokerAddress("xn--bcher-kva.example", 1883)),
        ("ws://host/a%2Fb%20c?t=%2B&x", BrokerAddress("host", 80, transport="websocket", path="/a%2Fb%20c?t=%2B&x")),
        ("ws://host?t=1", BrokerAddress("host", 80, transport="websocket", path="?t=1")),
    ],
)
def test_parse(url: str, expected: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with mqtt:// or mqtts:// (its scheme is none)"),
        ("host", "(its scheme is none)"),
        ("host:1883", "(its scheme is none)"),
        ("me:s3cret@host", "(its scheme is none)"),
        ("//me:s3cret@host", "(its scheme is none)"),
        ("http://me:s3cret@host", "(its scheme is http)"),
        ("mqtt:me:s3cret@host", "must begin with mqtt://"),
        ("mqtt://", "names no host"),
        ("mqtt://me:s3cret@", "names no host"),
        ("mqtt://:1883", "names no host"),
        ("mqtt://me:s3cret@host:0", "has port 0"),
        ("mqtt://me:s3cret@host:65536", "bad host or port"),
        ("mqtt://me:s3cret@host:-1", "bad host or port"),
        ("mqtt://me:s3cret@host:port", "bad host or port"),
        ("mqtt://me:s3cret@[::1", "bad host or port"),
        ("mqtt://me:s3cret@[zz]", "bad host or port"),
        ("mqtt://me:s3cret@host/topic", "goes on after the port"),
        ("mqtt://me:s3cret@host?x=1", "goes on after the port"),
        ("mqtt://me:s3cret@host#x", "goes on after the port"),
        # A character that must be quoted ends the address early, and the password stands where a port would.
        ("unix://me:s3cret@host/socket", "must name a socket as unix:///path"),
        ("unix:///", "must name a socket"),
        ("unix://me:s3cret@", "must name a socket"),
        ("unix:///a?b", "must be quoted as %23 or %3F"),
        ("ws://me:s3cret@host/mqtt#s3cret", "must be quoted as %23"),
        ("ws://me:12/s3cret@host/mqtt", "has an '@' after the host"),
        ("ws://me:12?s3cret@host/mqtt", "has an '@' after the host"),
        ("mqtt://me:s3\ncret@host", "has a control character"),
        ("mqtt://me:s3cret%@host", "'%' that must be quoted as %25"),
        ("mqtt://me%FF:s3cret@host", "user name that is no UTF-8"),
        ("mqtt://me:s3cret#x@host", "the broker URL"),
        ("mqtt://me:s3cret/x@host", "the broker URL"),
        ("mqtt://me:s3cret?x@host", "the broker URL"),
        ("mqtt://me:s3cret@ho\u2100st", "the broker URL"),
    ],
)
def test_a_bad_url_is_explained_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerAddress.parse(url)
    assert message in str(caught.value)
    assert "mqtt://user:password@host:1883" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://a..b",
        "mqtt://.example",
        f"mqtt://{'x' * 64}.example",
        f"mqtt://{'x.' * 127}example",
        "mqtt://a b",
        "mqtt://a%20b",
        "mqtt://a\\b",
        "mqtt://\udcff",
        f"mqtt://{'ü' * 60}",
        "mqtt://[fe80::1%]",
        "mqtt://[fe80::1%25a%2Fb]",
        "mqtt://[fe80::1%25%00]",
        "ws://host/é",
        "ws://host/a b",
    ],
)
def test_what_is_no_host_or_path_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        BrokerAddress.parse(url)


@pytest.mark.parametrize(
    "fields",
    [
        {"host": ""},
        {"host": None},
        {"host": "[::1]"},
        {"host": "a:b"},
        {"host": "a\r\nb"},
        {"port": 0},
        {"port": 65_536},
        {"port": "1883"},
        {"port": True},
        {"tls": "yes"},
        {"username": "a\0b"},
        {"username": "\udc80"},
        {"username": "x" * 65_536},
        {"username": b"me"},
        {"password": "x" * 65_536},
        {"password": "\udc80"},
        {"password": 5},
        {"transport": "udp"},
        {"path": "/mqtt"},
        {"transport": "websocket", "path": "mqtt"},
        {"transport": "websocket", "path": "/a\r\nb"},
        {"transport": "websocket", "path": "/a#b"},
        {"transport": "unix"},
        {"transport": "unix", "path": "relative"},
        {"transport": "unix", "path": "/a\0b"},
    ],
)
def test_an_address_that_was_made_directly_is_checked_too(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerAddress(**{"host": "host", "port": 1883, **fields})
    assert "xxxxxxxxxx" * 10 not in str(caught.value)


def test_its_text_never_shows_what_is_secret() -> None:
    address = BrokerAddress.parse("wss://me:s3cret@[::1]:2000/mqtt?token=s3cret")
    assert str(address) == "wss://me@[::1]:2000/mqtt?..."
    options = MqttOptions(broker=address)
    for text in (repr(address), str(options), repr(options), f"{address}"):
        assert "s3cret" not in text
        assert "me" in text


def mqtt_strings(least: int = 1, most: int = 30) -> st.SearchStrategy[str]:
    """What `check_text` allows: no control characters, surrogates, or what is no character."""
    characters = st.characters(exclude_categories=["Cc", "Cs"])
    return st.text(characters, min_size=least, max_size=most).filter(lambda text: not re.search(UNSENDABLE, text))


targets = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#@"), max_size=20)
places: dict[str, Any] = {
    "host": st.sampled_from(["host", "a.example", "192.0.2.1", "::1", "fe80::1%eth0.1", "fe80::1%25"]),
    "port": st.integers(1, 65535),
    "tls": st.booleans(),
    "username": st.none() | mqtt_strings(),
    "password": st.none() | st.binary(max_size=30),
}
addresses = (
    st.builds(BrokerAddress, **places)
    | st.builds(
        BrokerAddress,
        **places,
        transport=st.just("websocket"),
        path=st.just("") | st.builds(str.__add__, st.sampled_from("/?"), targets),
    )
    | st.builds(
        BrokerAddress,
        st.just(""),
        st.just(0),
        username=places["username"],
        password=places["password"],
        transport=st.just("unix"),
        path=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map("/{}".format),
    )
)


@given(addresses)
def test_its_url_says_all_of_it_and_its_text_all_that_may_be_seen(address: BrokerAddress) -> None:
    # A supervisor hands the first to its gateway in memory, and the second, if it says as much, on its command line.
    assert BrokerAddress.parse(address.url) == address
    seen = BrokerAddress.parse(str(address))
    if address.transport == "websocket" and "?" in address.path:
        assert seen.path == address.path.partition("?")[0] + "?..."
        seen = attrs.evolve(seen, path=address.path)
    assert seen == attrs.evolve(address, password=None)
    assert str(address).isascii()


def test_options_take_a_url_or_an_address() -> None:
    assert MqttOptions().broker == BrokerAddress("localhost", 1883)
    assert MqttOptions(broker="mqtt://host").broker == BrokerAddress("host", 1883)
    assert MqttOptions(broker=BrokerAddress("host", 1)).broker == BrokerAddress("host", 1)
    with pytest.raises(ConfigError, match="must begin with mqtt://"):
        MqttOptions(broker="host")


@pytest.mark.parametrize("field", ["keepalive", "connect_timeout", "max_inflight", "drain_timeout", "inbound_backlog"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "3", None])
def test_options_are_positive(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"MqttOptions: {field} is {value!r}"):
        MqttOptions(**{field: value})


def test_keepalive_is_what_mqtt_has_two_bytes_for() -> None:
    assert MqttOptions(keepalive=65_535).keepalive == 65_535
    with pytest.raises(ConfigError, match="keepalive is 65536"):
        MqttOptions(keepalive=65_536)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("session", "memroy", "session is 'memroy'; use 'native', 'aiomqtt' or 'memory'"),
        ("protocol", "3.1", "protocol is '3.1'; use '3.1.1' or '5'"),
        ("tls_minimum", "1.1", "tls_minimum is '1.1'; use '1.2' or '1.3'"),
        ("receive_maximum", 0, "receive_maximum is 0"),
        ("receive_maximum", 65_536, "receive_maximum is 65536"),
        ("session_expiry", -1, "session_expiry is -1"),
        ("session_expiry", 2**32, "session_expiry is 4294967296"),
        ("keepalive", 0.5, "keepalive is 0.5; it must be a whole number from 1 to 65535"),
        ("max_inflight", 1.5, "max_inflight is 1.5"),
        ("inbound_backlog", 1.5, "inbound_backlog is 1.5"),
        ("receive_maximum", True, "receive_maximum is True"),
        ("persistent", "yes", "persistent is 'yes'; use True or False"),
        ("protocol", 5, "protocol is 5"),
        ("session", [], "session is []"),
        ("broker", 5, "broker is of type int"),
        ("client_id", "", "client_id is ''; leave it None"),
        ("client_id", 5, "client_id is 5; it must be a str"),
        ("client_id", "a\0b", "null character"),
        ("client_id", "a\udc80", "U+DC80"),
        ("client_id", "é" * 40_000, "80000 bytes"),
        ("client_id", "x" * 65_535, "where this client_id can't stand"),
        ("client_id", "a+b", "presence is 'taktora/{client_id}/health', where this client_id can't stand"),
        ("will", b"gone", "will is of type bytes; it must be a LastWill"),
        ("reconnect", 5, "reconnect is of type int; it must be a Backoff"),
        ("reconnect", Backoff(maximum=1e300), "a maximum of 1e+300 seconds"),
        (
            "connect_timeout",
            1e300,
            "connect_timeout is 1e+300; it must be a number of seconds, more than 0 and at most",
        ),
        ("ca_file", 5, "no path of a file"),
        ("key_file", "a\0b", "no path of a file"),
        ("alpn", 5, "alpn is 5"),
        ("alpn", ["x" * 256], "1 to 255 ASCII characters"),
        ("alpn", "é", "1 to 255 ASCII characters"),
        ("alpn", "", "1 to 255 ASCII characters"),
        ("alpn", [b"mqtt"], "1 to 255 ASCII characters"),
        ("alpn", ["x" * 255] * 257, "more names than TLS can offer"),
        ("presence", 5, "presence is 5"),
        ("presence", "a/#", "wildcard"),
        ("presence", "", "at least one character"),
    ],
)
def test_what_can_not_be_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MqttOptions(**{field: value})
    assert message in str(caught.value)


def test_the_aiomqtt_session_is_refused_where_it_can_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "version_info", (3, 13, 0))
        assert MqttOptions(session="aiomqtt").session == "aiomqtt"
        patched.setattr(sys, "version_info", (3, 14, 0))
        with pytest.raises(ConfigError, match=r"needs Python 3\.13 or older.*use session='native'"):
            MqttOptions(session="aiomqtt")


def test_a_last_will_has_one_concrete_topic() -> None:
    assert LastWill("a/b", b"gone") == LastWill("a/b", b"gone", 1, True)
    with pytest.raises(ConfigError, match="wildcard"):
        LastWill("a/+", b"gone")


@pytest.mark.parametrize(
    "fields", [{"payload": "gone"}, {"payload": bytes(65_536)}, {"qos": 3}, {"qos": True}, {"retain": 1}, {"topic": 5}]
)
def test_a_last_will_is_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LastWill(**{"topic": "a/b", "payload": b"gone", **fields})


@pytest.mark.parametrize(("protocol", "session"), [("3.1.1", "native"), ("5", "aiomqtt")])
def test_a_password_without_a_user_is_for_mqtt_5(protocol: Any, session: Any) -> None:
    assert MqttOptions(broker="mqtt://:s3cret@host", protocol="5").broker.password == b"s3cret"
    with pytest.raises(ConfigError, match="has a password but no user") as caught:
        MqttOptions(broker="mqtt://:s3cret@host", protocol=protocol, session=session)
    assert "s3cret" not in str(caught.value)


def test_without_tls_there_is_no_context() -> None:
    assert MqttOptions(broker="mqtt://host").tls_context() is None


@attrs.frozen
class Certificates:
    ca: trustme.CA
    file: Path

    async def handshake(self, context: ssl.SSLContext, hostname: str) -> str:
        """As a client of a server that has a certificate of this authority for `localhost`; why it failed, or ''."""
        server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("localhost").configure_cert(server_context)
        near, far = trio.testing.memory_stream_pair()

        async def serve() -> None:
            with contextlib.suppress(trio.BrokenResourceError):  # the client says why
                await trio.SSLStream(far, server_context, server_side=True).do_handshake()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                try:
                    await trio.SSLStream(near, context, server_hostname=hostname).do_handshake()
                    return ""
                except trio.BrokenResourceError as exc:
                    return str(exc.__cause__)
                finally:
                    await near.aclose()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(trustme.CA(), tmp_path / "ca.pem")
    made.ca.cert_pem.write_to_path(str(made.file))
    return made


def context_of(**options: Any) -> ssl.SSLContext:
    context = MqttOptions(broker="mqtts://localhost", **options).tls_context()
    assert context is not None
    return context


async def test_the_ca_file_is_trusted_and_the_host_name_checked(certificates: Certificates) -> None:
    context = context_of(ca_file=str(certificates.file))
    assert len(context.get_ca_certs()) == 1
    assert await certificates.handshake(context, "localhost") == ""
    assert "Hostname mismatch" in await certificates.handshake(context, "elsewhere")


async def test_without_a_ca_file_only_the_systems_authorities_are_trusted(certificates: Certificates) -> None:
    assert "certificate verify failed" in await certificates.handshake(context_of(), "localhost")


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n", "folder"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "ca.pem"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        context_of(ca_file=file)
    assert f"the CA file {file} can't be used" in str(caught.value)


def test_a_client_certificate_is_loaded_and_what_is_wrong_with_it_is_said(certificates: Certificates) -> None:
    folder = certificates.file.parent
    issued = certificates.ca.issue_cert("client@example.org")
    cert, key, both = folder / "cert.pem", folder / "key.pem", folder / "both.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    issued.private_key_and_cert_chain_pem.write_to_path(str(both))
    context_of(cert_file=cert, key_file=key)
    context_of(cert_file=str(both))
    for options in ({"cert_file": cert}, {"cert_file": cert, "key_file": cert}, {"cert_file": folder / "none.pem"}):
        with pytest.raises(ConfigError, match=r"the client certificate .* can't be used"):
            context_of(**options)
    with pytest.raises(ConfigError, match="but no cert_file"):
        context_of(key_file=key)


def test_a_key_with_a_password_is_refused_instead_of_asked_for(certificates: Certificates) -> None:
    key, cert = certificates.file.parent / "key.pem", certificates.file.parent / "cert.pem"
    issued = certificates.ca.issue_cert("client@example.org")
    issued.cert_chain_pems[0].write_to_path(str(cert))
    private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    pem = serialization.PrivateFormat.PKCS8
    locked = serialization.BestAvailableEncryption(b"s3cret")
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, pem, locked))
    with pytest.raises(ConfigError, match="can't be used"):
        context_of(cert_file=cert, key_file=key)


def test_the_lowest_version_of_tls() -> None:
    assert context_of().minimum_version == ssl.TLSVersion.TLSv1_2
    assert context_of(tls_minimum="1.3").minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    "text", ["mqtt://a,", "mqtt://a,b", "mqtt://a,,mqtt://b", "mqtt://a:1883,b:1883", "mqtt://a:1,http://me:s3cret@b"]
)
def test_a_list_with_a_part_that_is_no_url_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("write mqtt://one:1883,mqtt://other:1883")) as caught:
        MqttOptions(broker=text)
    assert "s3cret" not in str(caught.value)
