"""What an app and an operator may say of the network: what can't be is refused in one line, and no secret is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import zenoh
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import (
    ConfigError,
    ConnectorHost,
    Deployment,
    MqttConnector,
    MqttRouting,
    Outbound,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.connectors.settings import SettingValue
from taktora_trio.connectors.zenoh.configuring import configuration, one_line
from taktora_trio.connectors.zenoh.endpoints import parse_endpoint
from taktora_trio.connectors.zenoh.native.node import _config
from taktora_trio.runners.configuration.meant import setting_typed

OUT = Outbound("out", int, ZenohRouting("a"))


async def app(host: ConnectorHost) -> None: ...


@pytest.mark.parametrize(
    ("text", "protocol", "host", "port"),
    [
        ("tcp/127.0.0.1:7447", "tcp", "127.0.0.1", 7447),
        ("tls/router.example:7447", "tls", "router.example", 7447),
        ("quic/[fe80::1%eth0]:1", "quic", "fe80::1%eth0", 1),
        ("udp/224.0.0.224:7446#iface=eth0", "udp", "224.0.0.224", 7446),
        ("ws/h:65535?prio=1-3", "ws", "h", 65_535),
    ],
)
def test_an_endpoint(text: str, protocol: str, host: str, port: int) -> None:
    found = parse_endpoint(text)
    assert (found.text, found.protocol, found.host, found.port) == (text, protocol, host, port)
    assert not {*"#?"} & {*str(found)}


def test_a_unix_socket_is_an_endpoint() -> None:
    assert parse_endpoint("unixsock-stream//run/router.sock").path == "/run/router.sock"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write PROTOCOL/HOST:PORT"),
        (7, "write PROTOCOL/HOST:PORT"),
        ("localhost:7447", "write tcp/localhost:7447"),
        ("localhost", "it names no protocol"),
        ("tcp://host:7447", "write tcp/host:7447"),
        ("mqtts://me:secret@host:8883", "write tls/host:8883"),
        ("tcp/host", "write tcp/host:7447"),
        ("tcp/host:70000", "up to 65535"),
        ("tcp/::1:7447", "a host and a port"),
        ("http/host:80", "there is no protocol 'http'; use tcp, udp, tls"),
        ("serial//dev/ttyS0", "there is no protocol 'serial'"),
        ("unixsock-stream/run", "the path of a unix socket is absolute"),
        ("tcp/a\nb:1", "write PROTOCOL/HOST:PORT"),
        ("tls/h:1#connect_private_key_base64=c2VjcmV0", "use key_file"),
    ],
)
def test_what_is_no_endpoint_is_refused_and_says_what_to_write(text: Any, says: str) -> None:
    for field in ("connect", "listen"):
        with pytest.raises(ConfigError, match=f"ZenohOptions: {field}: ") as refused:
            ZenohOptions(mode="peer", connect=[text]) if field == "connect" else ZenohOptions(
                mode="peer", listen=[text]
            )
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "secret@" not in str(refused.value)
        assert "c2VjcmV0" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "broker"}, "mode is 'broker'"),
        ({"connect": 7}, "are no endpoints"),
        ({"connect": "tcp/a:1,tcp/a:1"}, "is in the list twice"),
        ({"listen": "tcp/0.0.0.0:7447"}, "a client listens nowhere"),
        ({"key_file": "key.pem"}, "but no cert_file"),
        ({"password": "x"}, "but no user"),
        ({"user": ""}, "it must be a text that can be shown"),
        ({"user": "\ud800"}, "it must be a text that can be shown"),
        ({"user": "a", "password": "\ud800"}, "password is no UTF-8"),
        ({"user": "a", "password": b""}, "password must be bytes or a text, and not empty"),
        ({"mode": "peer", "scouting": False}, "nobody would be found"),
        ({"connect": [], "scouting": False}, "nobody would be found"),
        ({"scouting": "yes"}, "scouting is 'yes'"),
        ({"lease": 0}, "lease is 0"),
        ({"zenoh_config": ""}, "is no path"),
    ],
)
def test_what_contradicts_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ZenohOptions(**options)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("options", "places", "looks_around", "address"),
    [
        ({}, ("tcp/127.0.0.1:7447",), False, "tcp/127.0.0.1:7447"),
        ({"connect": "tcp/a:1, tls/b:2#x=y"}, ("tcp/a:1", "tls/b:2#x=y"), False, "tcp/a:1, tls/b:2"),
        ({"connect": []}, (), True, "whoever is found by multicast"),
        ({"mode": "peer"}, (), True, "whoever is found by multicast"),
        ({"mode": "router", "listen": "tcp/a:1", "scouting": False}, (), False, "whoever connects"),
        ({"zenoh_config": "z.json5"}, (), False, "what z.json5 names"),
    ],
)
def test_where_others_are(options: dict[str, Any], places: tuple[str, ...], looks_around: bool, address: str) -> None:
    declared = ZenohOptions(**options)
    assert (declared.places, declared.looks_around, declared.address) == (places, looks_around, address)


endpoints = st.sampled_from(["tcp/a:1", "tls/b:2", "quic/[::1]:3", "udp/c:4#iface=lo", "unixsock-stream//tmp/s"])
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
users = texts.filter(str.isprintable)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["client", "peer", "router"]),
    st.none() | st.lists(endpoints, min_size=1, unique=True),
    st.lists(endpoints, min_size=1, unique=True),
    st.none() | st.booleans(),
    users,
    texts,
    st.floats(0.0001, 1e6),
)
def test_zenoh_takes_whatever_the_options_take(
    mode: Any, connect: Any, listen: Any, scouting: bool | None, user: str, password: str, time: float
) -> None:
    options = ZenohOptions(
        mode=mode,
        connect=connect,
        listen=None if mode == "client" else listen,
        scouting=None if connect is None and mode == "client" else scouting,
        user=user,
        password=password,
        cert_file="/nowhere/ü.pem",
        ca_file="/nowhere/ca.pem",
        lease=time,
        connect_timeout=min(time, 1e6),
    )
    config = _config(options)
    assert zenoh.Config.from_json5(str(config)).get_json("mode") == f'"{mode}"'
    assert set(configuration(options)) >= {"mode", "transport/auth/usrpwd/password", "transport/link/tls/enable_mtls"}
    assert "password" not in repr(options).replace("zenoh-password", "")


def values(**given: str | bytes) -> dict[str, SettingValue]:
    return {
        name.replace("_", "-"): SettingValue("", secret=value) if isinstance(value, bytes) else SettingValue(value)
        for name, value in given.items()
    }


def test_settings_change_the_options() -> None:
    connector = ZenohConnector([OUT], options=ZenohOptions(user="plant"))
    given = values(connect="tls/a:1,tls/b:2", ca_file="ca.pem", zenoh_password_file="säcret".encode())
    changed = connector.configured(given)
    assert changed.options == attrs.evolve(
        connector.options, connect=("tls/a:1", "tls/b:2"), ca_file=Path("ca.pem"), password="säcret"
    )
    assert changed.unused(given) == {}
    assert "säcret" not in repr(changed)
    with pytest.raises(ConfigError, match="no UTF-8"):
        connector.configured(values(zenoh_password_file=b"\xff"))


def test_what_mqtt_calls_the_same_is_given_once_for_both() -> None:
    deployment = Deployment(
        "both", app, [ZenohConnector([OUT]), MqttConnector([Outbound("out", int, MqttRouting("a"))])]
    )
    for name in ("ca-file", "cert-file", "key-file", "connect-timeout", "max-inflight"):
        assert setting_typed(deployment, name, "7").connector is None
    assert setting_typed(deployment, "ca-file", "zenoh=x").connector == "zenoh"


def test_settings_that_change_nothing_are_refused_with_the_reason() -> None:
    connector = ZenohConnector([OUT])
    given = values(connect="tcp/a:1", ca_file="ca.pem", zenoh_password_file=b"x")
    reasons = connector.configured(given).unused(given)
    assert list(reasons) == ["zenoh-password-file", "ca-file"]
    assert "name the user, by --user NAME" in reasons["zenoh-password-file"]
    assert "write tls/HOST:PORT" in reasons["ca-file"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"user": "plant"}, "'plant' has no password: give it by --zenoh-password-file, or by TAKTORA_ZENOH_PASSWORD"),
        ({"ca_file": "/nowhere/ca.pem"}, "the CA file /nowhere/ca.pem can't be used"),
        ({"cert_file": "/nowhere/me.pem"}, "the client certificate /nowhere/me.pem can't be used"),
        ({"mode": "peer", "listen": "tls/0.0.0.0:7447"}, "to listen at tls/0.0.0.0:7447 takes a certificate"),
        ({"zenoh_config": "/nowhere/z.json5"}, "zenoh_config /nowhere/z.json5 can't be read: No such file"),
    ],
)
def test_files_and_logins_are_checked_before_anything_is_started(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ZenohConnector([OUT], options=ZenohOptions(**options)).check_files()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_the_library_one_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'taktora-trio\[zenoh\]'"):
        ZenohConnector([OUT]).check_files()
    ZenohConnector([OUT], options=ZenohOptions(session="memory")).check_files()


def test_an_error_of_the_library_is_one_line_without_places_in_its_source() -> None:
    text = 'JSON error: "x\x1b[0m"\n  - No\n   at /root/.cargo/git/x.rs:447. - Caused by y at /root/z.rs:3.'
    assert one_line(text) == 'JSON error: "x\\x1b[0m" - No'
    assert one_line("JSON error:  --> 1:1\n  |\n1 | {\n  | ^---\n  |\n  = expected null at /x.rs") == (
        "line 1, column 1: expected null"
    )
    assert one_line("") == "no reason is given"


def test_keys_overlap_as_they_do_in_zenoh() -> None:
    connector = ZenohConnector([OUT])
    assert connector.overlap("plant/*/heat", "plant/7/**")
    assert not connector.overlap("plant/*", "plant/@7")


def test_what_others_are_told_of_channels_and_servers() -> None:
    out = Outbound("out", int, ZenohRouting("plant/$*-1/*/**", priority="data-high", acknowledged=True))
    described = ZenohConnector([out]).describe_channel(out)
    assert (described.topic, described.address) == ("plant/$*-1/*/**", "plant/{chunk2}/{chunk3}/{rest}")
    assert described.parameters["chunk2"].description == "Any one chunk of the key that matches `$*-1`."
    assert described.parameters["rest"].is_many
    assert described.properties["priority"] == "data-high"
    assert ZenohConnector([OUT]).describe_server("tls/[::1]:7447").host == "[::1]:7447"
    for wrong in ("localhost:7447", "unixsock-stream//tmp/s"):
        with pytest.raises(ConfigError):
            ZenohConnector([OUT]).describe_server(wrong)
