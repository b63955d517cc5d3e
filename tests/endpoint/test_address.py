"""Where an endpoint listens, and what is said where it can't."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from taktora_trio import ConfigError
from taktora_trio.errors import TemporaryFailure
from taktora_trio.runners.configuration.address import parse_address
from taktora_trio.runners.endpoint.listening import is_local, open_listener, url_of
from taktora_trio.runners.endpoint.token import check_token, read_token

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no address"),
        ("9464", "is no address"),
        ("127.0.0.1", "is no address"),
        ("127.0.0.1:", "is no address"),
        ("127.0.0.1:http", "is no address"),
        ("127.0.0.1:-1", "is no address"),
        ("http://127.0.0.1:9464", "is no address"),
        ("::1:9464", "is no address"),
        ("127.0.0.1:65536", "at most 65535"),
        ("example.com:80", "is no IP address"),
        ("[127.0.0.1:80", "is no IP address"),
        (":9464", "is no IP address"),
        ("127.1:80", "is no IP address"),
        ("unix:", "1 to 107 bytes"),
        (f"unix:/{'x' * 107}", "1 to 107 bytes"),
        ("unix:a\0b", "1 to 107 bytes"),
        ("fd:", "number of a descriptor"),
        ("fd:-1", "number of a descriptor"),
        ("fd:9999999999", "number of a descriptor"),
        ("\x1b[31m:1", "is no IP address"),
    ],
)
def test_what_is_no_address_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse_address(text)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_a_port_of_this_machine(text: str) -> None:
    with open_listener(parse_address(text)) as listener:
        assert is_local(listener)
        port = listener.getsockname()[1]
        assert url_of(listener).endswith(f":{port}/")
        with socket.create_connection(listener.getsockname()[:2]):
            pass
        host = f"[{listener.getsockname()[0]}]" if "[" in text else "127.0.0.1"
        message = "something listens there already: stop that, or choose another one"
        with pytest.raises(TemporaryFailure, match=message), open_listener(parse_address(f"{host}:{port}")):
            pass


def test_what_is_not_this_machines() -> None:
    with pytest.raises(TemporaryFailure, match="no such address"), open_listener(parse_address("192.0.2.1:0")):
        pass
    with open_listener(parse_address("0.0.0.0:0")) as listener:
        assert not is_local(listener)
        with pytest.raises(ConfigError, match="needs a token"):
            check_token(listener, None, "0.0.0.0:0")
        check_token(listener, TOKEN, "0.0.0.0:0")


def test_a_unix_socket_is_its_owners_and_goes_with_the_run(tmp_path: Path) -> None:
    path = tmp_path / "endpoint"
    address = parse_address(f"unix:{path}")
    with open_listener(address) as listener:
        assert is_local(listener)
        assert url_of(listener) == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(TemporaryFailure, match="something listens there already"), open_listener(address):
            pass
    assert not path.exists()


def test_a_socket_that_a_killed_run_has_left_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "endpoint"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with open_listener(parse_address(f"unix:{path}")), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    path.write_text("mine")
    with pytest.raises(ConfigError, match="which is no socket"), open_listener(parse_address(f"unix:{path}")):
        pass
    assert path.read_text() == "mine"


def test_a_socket_that_somebody_else_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "endpoint"
    with open_listener(parse_address(f"unix:{path}")):
        path.unlink()
        path.write_text("another's")
    assert path.exists()


def test_an_inherited_socket_has_to_listen(tmp_path: Path) -> None:
    with (
        open_listener(parse_address("127.0.0.1:0")) as listener,
        open_listener(parse_address(f"fd:{os.dup(listener.fileno())}")) as inherited,
    ):
        assert inherited.getsockname() == listener.getsockname()
        assert not inherited.get_inheritable()
    with socket.socket() as idle, (tmp_path / "file").open("w") as file:
        for fd, message in ((idle.fileno(), "does not listen"), (file.fileno(), "no such socket")):
            with pytest.raises(ConfigError, match=message), open_listener(parse_address(f"fd:{fd}")):
                pass


def test_a_token_is_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert read_token(None) is None
    for end in ("", "\n", "\r\n"):
        path.write_bytes(f"{TOKEN}{end}".encode())
        assert read_token(str(path)) == TOKEN
    for content in (b"", b"short", b"two words of them", f"{TOKEN}\n\n".encode(), b"\xff" * 20, b"x" * 5000):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="openssl rand -hex 32"):
            read_token(str(path))
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read_token(str(tmp_path / "none"))
