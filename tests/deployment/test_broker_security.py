"""Logins and TLS: what is refused is `Down`, what is secret is shown nowhere."""

from __future__ import annotations

import base64
import contextlib
import gc
import itertools
import os
import random
import signal
import ssl
import string
import subprocess
import traceback
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import attrs
import msgspec
import psutil
import pytest
import trio
import trustme

from taktora_trio.channels import Inbound, Outbound
from taktora_trio.connectors.mqtt.options import BrokerAddress
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.health import Down, Up
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.domain import Domain
from tests.brokers.hostile import SCRIPTS, Peer, echo_connect, open_hostile_broker, refuse_with_its_own_words, relay
from tests.brokers.live import open_live
from tests.brokers.nats import needs_nats, open_nats
from tests.brokers.packets import CONNECT, Packet
from tests.brokers.sessions import Kind, each_session
from tests.client import open_client
from tests.command import MODES, open_command, run_command
from tests.deployment.delivery_apps import VARIABLE as DELIVERY_VARIABLE
from tests.deployment.delivery_apps import Setting
from tests.mosquitto import Mosquitto, find_mosquitto, free_port, open_mosquitto

CHANNEL = Outbound("out", bytes, MqttRouting("test/out", qos=1), max_payload=200_000)
DELIVERY = "tests.deployment.delivery_apps:deployment"
SECRET = "s3cr3t-p@ss/word"
QUOTED = "s3cr3t-p%40ss%2Fword"
ECHO = "examples.echo:deployment"


@pytest.fixture(autouse=True)
def no_word_of_sockets_that_paho_forgets() -> Iterator[None]:
    """It does not close the socket of a TLS handshake that failed; the collector does, and warns, in any later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def password_lines(tmp_path: Path) -> list[str]:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    tool = find_mosquitto("mosquitto_passwd")
    subprocess.run([tool, "-b", str(passwords), "app", SECRET], check=True, capture_output=True)
    return [f"password_file {passwords}", "user root"]


def shown_anywhere(pids: list[int]) -> str:
    return "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


def environments(pids: list[int]) -> str:
    return "".join(Path(f"/proc/{pid}/environ").read_text() for pid in pids)


def inherited(process: psutil.Process) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]


def way_to_give(way: str, folder: Path, address: str) -> tuple[str, list[str], dict[str, str]]:
    """The broker's URL, further options, and an environment."""
    url = f"mqtt://app@{address}"
    file = folder / "secret"
    match way:
        case "url":
            return f"MQTT://app:{QUOTED}@{address}", [], {}
        case "url in a file":
            file.write_text(f"mqtt://app:{QUOTED}@{address}\n")
            return f"@{file}", [], {}
        case "file":
            file.write_text(SECRET + "\n")
            return url, ["--broker-password-file", str(file)], {}
        case "pipe":  # as of a shell's <(command): it can be read only once
            os.mkfifo(file)
            return url, ["--broker-password-file", str(file)], {}
        case _:
            return url, [], {"TAKTORA_BROKER_PASSWORD": SECRET}


@pytest.mark.parametrize(
    ("way", "mode"),
    [
        *itertools.product(["url", "file", "pipe", "variable"], MODES),
        ("url in a file", "split"),
        ("url", "split --warm"),
        ("variable", "split --warm"),
    ],
)
async def test_a_password_works_and_is_never_shown(
    mode: str, way: str, tmp_path: Path, password_lines: list[str], domain: Domain
) -> None:
    """No process of the run shows it, nor could a child of the app read it from what it inherits."""
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        url, more, env = way_to_give(way, tmp_path, f"127.0.0.1:{broker.port}")
        arguments = ("run", "tests.deployment.apps:parent", "--mode", *mode.split(), "--domain", domain.name)
        async with open_command(*arguments, "--broker", url, *more, env=env) as run:
            if way == "pipe":
                await trio.to_thread.run_sync((tmp_path / "secret").write_text, SECRET)
            await run.until_event("health-up")
            await run.until_printed("a child is there")
            pids = [process.pid for process in run.tree()]
            shown = shown_anywhere(pids) + environments(pids)
            assert shown.count("sleep") == 1
            [child] = [process for process in run.tree() if process.name() == "sleep"]
            assert not [link for link in inherited(child) if link.startswith("/memfd:")]
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        said = shown + "\n".join(run.stderr + run.output)
        assert "app@127.0.0.1" in said
        assert SECRET not in said
        assert QUOTED not in said


@pytest.mark.parametrize("mode", MODES)
async def test_each_connector_has_a_broker_and_a_password_of_its_own(mode: str, tmp_path: Path, domain: Domain) -> None:
    """One login is in the URL, the other one's password in a file or in the environment; none is shown anywhere."""
    secrets = {"north": "n0rth-s3cret", "south": "s0uth-s3cret"}
    async with contextlib.AsyncExitStack() as stack:
        address = {}
        for name, secret in secrets.items():
            passwords = tmp_path / f"passwords-{name}"
            passwords.touch(mode=0o600)
            tool = find_mosquitto("mosquitto_passwd")
            await trio.run_process([tool, "-b", str(passwords), name, secret])
            lines = [f"password_file {passwords}", "user root"]
            broker = await stack.enter_async_context(open_mosquitto(tmp_path, lines, anonymous=False))
            address[name] = f"127.0.0.1:{broker.port}"
        more, env = [], {"TAKTORA_BROKER_PASSWORD": secrets["south"]}
        if mode == "split":
            (tmp_path / "secret").write_text(secrets["south"])
            more, env = ["--broker-password-file", f"south={tmp_path / 'secret'}"], {}
        run = await stack.enter_async_context(
            open_command(
                *("run", "tests.deployment.apps:on_two_brokers", "--mode", mode, "--domain", domain.name),
                *("--broker", f"north=mqtt://north:{secrets['north']}@{address['north']}"),
                *(f"--broker=south=mqtt://south@{address['south']}", *more),
                env=env,
            )
        )
        for name in secrets:
            await run.until_event("connected", connector=name, address=f"mqtt://{name}@{address[name]}")
        await run.until_printed("a child is there")
        pids = [process.pid for process in run.tree()]
        shown = shown_anywhere(pids) + environments(pids)
        [child] = [process for process in run.tree() if process.name() == "sleep"]
        assert not [link for link in inherited(child) if link.startswith("/memfd:")]
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0
    said = shown + "\n".join(run.stderr + run.output)
    assert f"mqtt://south@{address['south']}" in said
    assert [secret for secret in secrets.values() if secret in said] == []


@pytest.mark.parametrize("script", ["in_process", "split"])
async def test_the_runner_scripts_hide_it_too(
    script: str, tmp_path: Path, password_lines: list[str], domain: Domain
) -> None:
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        url = f"mqtt://app:{QUOTED}@127.0.0.1:{broker.port}"
        arguments = (ECHO, "--broker", url, "--domain", domain.name)
        async with open_command(*arguments, program=[f"supervisors/{script}.py"]) as run:
            await run.until_event("health-up")
            lines = shown_anywhere([process.pid for process in run.tree()])
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        assert "@/proc/self/fd/" in lines
        assert any(f"connected to mqtt://app@127.0.0.1:{broker.port}" in line for line in run.stderr)
        assert QUOTED not in lines


async def test_halves_alone_hide_it_too(tmp_path: Path, password_lines: list[str], domain: Domain) -> None:
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        url = f"mqtt://app@127.0.0.1:{broker.port}"
        common = ("tests.deployment.apps:parent", "--broker", url, "--domain", domain.name)
        env = {"TAKTORA_BROKER_PASSWORD": SECRET}
        async with (
            open_command("plugin", *common, env=env) as plugin,
            open_command("gateway", *common, env=env) as gateway,
        ):
            await plugin.until_event("health-up")
            await plugin.until_printed("a child is there")
            pids = [process.pid for process in (*plugin.tree(), *gateway.tree())]
            assert len(pids) == 3
            assert SECRET not in shown_anywhere(pids) + environments(pids)
            for half in (plugin, gateway):
                half.signal(signal.SIGTERM)
                assert await half.wait(5) == 0


async def test_a_password_that_nobody_waits_for(broker: Mosquitto, tmp_path: Path) -> None:
    """To log in without it would not be what was asked for."""
    (tmp_path / "secret").write_text(SECRET)
    for more, env in (
        (["--broker-password-file", str(tmp_path / "secret")], {}),
        ([], {"TAKTORA_BROKER_PASSWORD": SECRET}),
    ):
        code, _, errors = await run_command("run", ECHO, "--mode", "split", "--broker", broker.url, *more, env=env)
        assert (code, errors.count("\n")) == (2, 0)
        assert "no broker has a user" in errors
        assert SECRET not in errors


@pytest.mark.parametrize(
    ("mode", "way"), [("split", "url"), ("split", "file"), ("split", "variable"), ("in-process", "variable")]
)
async def test_the_same_bytes_in_any_locale(mode: str, way: str, domain: Domain, tmp_path: Path) -> None:
    """Neither the password nor the user is text of the locale; the second is UTF-8."""
    secret = "grün".encode() + b"\xff"
    (tmp_path / "secret").write_bytes(secret)
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    asked: list[Packet] = []

    async def accept(peer: Peer) -> None:
        asked.append(await peer.read(CONNECT))
        await peer.send(peer.connack())
        await peer.until_gone()

    async with open_hostile_broker([accept]) as broker:
        login, more = "grün", []
        if way == "url":
            login += ":gr%C3%BCn%FF"
        elif way == "file":
            more = ["--broker-password-file", str(tmp_path / "secret")]
        else:
            env["TAKTORA_BROKER_PASSWORD"] = os.fsdecode(secret)
        arguments = ("run", "tests.deployment.apps:parent", "--mode", mode, "--domain", domain.name)
        url = f"mqtt://{login}@127.0.0.1:{broker.port}"
        async with open_command(*arguments, "--broker", url, *more, env=env) as run:
            await run.until_event("health-up")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
    assert asked[0].body.endswith(b"\0\5gr\xc3\xbcn\0\6" + secret)


@pytest.mark.parametrize("mode", MODES)
async def test_a_refused_login_is_down_and_tried_again_at_once_when_somebody_asks_for_it(
    mode: str, tmp_path: Path, password_lines: list[str], domain: Domain
) -> None:
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        url = f"mqtt://app:wrong@127.0.0.1:{broker.port}"
        async with open_command("run", ECHO, "--mode", mode, "--broker", url, "--domain", domain.name) as run:
            down = await run.until_event(
                "health-down", "(the broker refused the login: Not authorized; next attempt at 20"
            )
            await trio.sleep(1)  # four times the delay after which another failure would be tried again
            refusals = run.events("login-refused", "Not authorized; trying")
            assert len(refusals) == 1, "it was tried again at once"
            tool = find_mosquitto("mosquitto_passwd")
            await trio.run_process([tool, "-b", str(tmp_path / "passwords"), "app", "wrong"])
            os.kill(broker.pid, signal.SIGHUP)
            code, output, errors = await run_command("revive", "--domain", domain.name)
            assert (code, errors) == (0, "")
            told = (
                "mqtt: revived: tries at once; it was Down (the broker refused the login: Not authorized; next attempt"
            )
            assert output.startswith(f"asked the run of domain {domain.name} (pid {run.pid}): {told}")
            await run.until_event("health-up")
            run.signal(signal.SIGTERM)
            assert await run.wait(10) == 0
        assert "wrong" not in down["message"]


@pytest.mark.parametrize("mode", MODES)
async def test_tls_with_a_ca_of_our_own(mode: str, tmp_path: Path, domain: Domain) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    tls = [f"certfile {tmp_path}/cert.pem", f"keyfile {tmp_path}/key.pem", "user root"]
    async with open_mosquitto(tmp_path, tls) as broker:
        url = f"mqtts://localhost:{broker.port}"
        common = ("run", ECHO, "--mode", mode, "--broker", url, "--domain", domain.name)
        async with open_command(*common, "--ca-file", str(tmp_path / "ca.pem")) as run:
            await run.until_event("health-up")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        async with open_command(*common) as run:  # the system's authorities don't know ours
            await run.until_event("connection-failed", "certificate verify failed")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0


async def test_a_gateway_starts_while_the_ca_file_is_away(tmp_path: Path, authority: Authority, domain: Domain) -> None:
    """It was there when the run began, so it is no bad input, but a failed connection, and may be back for the next."""
    server, ca_file = authority.issue("localhost"), authority.file
    async with open_mosquitto(tmp_path, [f"certfile {server}", f"keyfile {server}", "user root"]) as broker:
        arguments = ("run", ECHO, "--mode", "split", "--broker", f"mqtts://localhost:{broker.port}")
        async with open_command(*arguments, "--domain", domain.name, "--ca-file", str(ca_file)) as run:
            await run.until_event("health-up")
            ca_file.rename(tmp_path / "away.pem")
            run.signal(signal.SIGKILL, run.half("gateway"))
            await run.until_event("connection-failed", f"the CA file {ca_file} can't be used", count=2)
            (tmp_path / "away.pem").rename(ca_file)
            await run.until_event("health-up", count=2)
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        assert len(run.events("process-started", half="gateway")) == 2


async def test_a_bad_ca_file(tmp_path: Path, broker: Mosquitto) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for path in (tmp_path / "bad.pem", tmp_path / "missing.pem"):
        url = f"mqtts://127.0.0.1:{broker.port}"
        async with open_command(
            "run", ECHO, "--mode", "in-process", "--broker", url, "--ca-file", str(path), json_log=False
        ) as run:
            assert await run.wait() == 2
        [line] = run.stderr
        assert str(path) in line
    assert ssl.HAS_TLSv1_2


def traces_of(secret: str) -> list[str]:
    """How it might be written, and pieces of it."""
    ways = {
        secret,
        quote(secret, safe=""),
        repr(secret)[1:-1],
        repr(secret.encode())[2:-1],
        secret.encode().hex(),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    }
    return sorted(ways | {secret[:10], secret[-10:]})


@pytest.mark.parametrize("mode", MODES)
@each_session
async def test_no_hostile_broker_gets_a_password_out_of_it(
    mode: str, session: Kind, domain: Domain, tmp_path: Path
) -> None:
    """A random one, looked for in all that the run has printed, and in what every process shows of itself."""
    secret = "pw-" + "".join(random.choices(string.ascii_letters + string.digits + "%@/:#\\\"'é ", k=24)) + "-end"
    scripts = [
        echo_connect,
        refuse_with_its_own_words,
        *(
            SCRIPTS[name]
            for name in (
                "closes at once",
                "closes after CONNECT",
                "CONNACK is garbage",
                "CONNACK is text",
                "SUBACK has no codes",
                "PUBLISH with a topic that is not UTF-8",
                "garbage",
            )
        ),
    ]
    (tmp_path / "password").write_text(secret)
    async with open_hostile_broker(scripts) as hostile:
        url = f"mqtt://some-user@127.0.0.1:{hostile.port}"
        setting = Setting(str(tmp_path / "orders"), {**session.fields, "connect_timeout": 0.3, "persistent": False})
        os.mkfifo(tmp_path / "orders")
        async with open_command(
            *("run", DELIVERY, "--mode", mode, "--broker", url, "--domain", domain.name),
            *("--broker-password-file", str(tmp_path / "password"), "--await-broker"),
            env={DELIVERY_VARIABLE: msgspec.json.encode(setting).decode()},
        ) as run:
            await hostile.until_connected(len(scripts) + 1)
            shown = shown_anywhere([process.pid for process in run.tree()])
            shown += environments([process.pid for process in run.tree()])
            run.signal(signal.SIGTERM)
            assert await run.wait(10) == 0
        said = shown + "\n".join(run.stderr + run.output)
    assert "some-user" in said
    assert said.count("trying again in") >= len(scripts)
    for trace in traces_of(secret):
        assert trace not in said


@each_session
async def test_a_random_wrong_password_is_in_no_health_event(
    session: Kind, tmp_path: Path, password_lines: list[str], domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    secret = f"wrong-{uuid.uuid4().hex}"
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        address = attrs.evolve(BrokerAddress.parse(broker.url), username="app", password=secret)
        with caplog.at_level("DEBUG"):
            async with open_live([CHANNEL], session.options(address), domain) as live:
                [event] = await live.until_transitions(1)
                assert isinstance(event.after, Down)
        cause = event.cause
        told = repr(event) + str(event.after) + str(cause) + caplog.text
        if isinstance(cause, BaseException):
            told += "".join(traceback.format_exception(cause))
        assert "refused the login" in told
        assert secret not in told


@attrs.frozen
class Authority:
    """A certificate authority, and files of what it has issued."""

    folder: Path
    ca: trustme.CA

    @property
    def file(self) -> Path:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, name: str) -> Path:
        path = self.folder / f"{name}.pem"
        self.ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("localhost").configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "ours"
    folder.mkdir()
    return Authority(folder, trustme.CA())


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    folder = tmp_path / "theirs"
    folder.mkdir()
    return Authority(folder, trustme.CA())


@contextlib.asynccontextmanager
async def open_tls_front(context: ssl.SSLContext, port: int) -> AsyncIterator[tuple[int, list[str | None]]]:
    """Speaks TLS by this context, and passes on to that port: its own port, and the ALPN protocol of each handshake."""
    chosen: list[str | None] = []

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError, OSError):
            await stream.do_handshake()
            chosen.append(stream.selected_alpn_protocol())
            await relay(stream, port)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        [listener] = listeners
        yield listener.transport_listener.socket.getsockname()[1], chosen  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()


async def until_tried_again(caplog: pytest.LogCaptureFixture, times: int) -> None:
    with trio.fail_after(20):
        while sum("trying again in" in message for message in caplog.messages) < times:  # noqa: ASYNC110 - a log only grows
            await trio.sleep(0.01)


CASES: dict[str, tuple[dict[str, str | None], str | None]] = {
    "everything right": ({}, None),
    "another authority": ({"ca_file": "theirs"}, "certificate verify failed"),
    "another host name": ({"host": "127.0.0.1"}, "certificate verify failed"),
    "no certificate of its own": ({"cert_file": None}, ""),
    "a certificate of another authority": ({"cert_file": "theirs"}, ""),
}


@each_session
@pytest.mark.parametrize("case", CASES)
async def test_tls_with_client_certificates(
    session: Kind,
    case: str,
    tmp_path: Path,
    authority: Authority,
    stranger: Authority,
    domain: Domain,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """mosquitto asks for a certificate; what is wrong with either side's is said, and tried again."""
    changed, reason = CASES[case]
    host = changed.get("host") or "localhost"
    server = authority.issue("localhost")
    lines = [f"cafile {authority.file}", f"certfile {server}", f"keyfile {server}", "require_certificate true"]
    whose = {"ours": authority, "theirs": stranger}
    async with open_mosquitto(tmp_path, [*lines, "user root"]) as broker:
        own = changed.get("cert_file", "ours")
        options = session.options(
            f"mqtts://{host}:{broker.port}",
            ca_file=whose[changed.get("ca_file") or "ours"].file,
            cert_file=whose[own].issue("client") if own else None,
            reconnect=Backoff(initial=0.05, maximum=0.1),
        )
        async with open_live([CHANNEL], options, domain) as live:
            if reason is None:
                await live.until_up()
                return
            await until_tried_again(caplog, 2)
            assert not any(isinstance(event.after, Up | Down) for event in live.events)
    told = [message for message in caplog.messages if "trying again in" in message]
    assert any(reason in message for message in told), told


@each_session
async def test_the_lowest_version_of_tls_and_the_protocol_within_it(
    session: Kind, broker: Mosquitto, authority: Authority, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    context = authority.server_context()
    context.set_alpn_protocols(["http/1.1", "mqtt"])
    async with open_tls_front(context, broker.port) as (port, chosen):
        url = f"mqtts://localhost:{port}"
        common = {"ca_file": authority.file, "reconnect": Backoff(initial=0.05, maximum=0.1)}
        options = session.options(url, alpn="mqtt", tls_minimum="1.3", **common)
        async with open_live([CHANNEL], options, domain) as live:
            await live.until_up()
        assert chosen == ["mqtt"]
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with open_tls_front(context, broker.port) as (port, chosen):
        url = f"mqtts://localhost:{port}"
        async with open_live([CHANNEL], session.options(url, **common), domain) as live:
            await live.until_up()  # 1.2 is enough, if nobody asks for more
        async with open_live([CHANNEL], session.options(url, tls_minimum="1.3", **common), domain) as live:
            await until_tried_again(caplog, 1)
            assert live.events == []
        assert chosen == [None]


@pytest.mark.parametrize("mode", MODES)
async def test_a_unix_socket(mode: str, tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "broker.sock"
    async with (
        open_mosquitto(tmp_path, [f"listener 0 {path}", "user root"]) as broker,
        open_client(broker.port, "taktora/echo/reply") as client,
        open_command("run", ECHO, "--mode", mode, "--broker", f"unix://{path}", "--domain", domain.name) as run,
    ):
        await run.until_event("health-up")
        client.publish("taktora/echo/request/me", b"through a socket of the file system")
        assert (await client.receive()).payload == b"through a socket of the file system"
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0


@needs_nats
@each_session
async def test_a_websocket_of_a_real_broker(session: Kind, tmp_path: Path, domain: Domain) -> None:
    """NATS server's, since Debian's mosquitto has none."""
    if session.level == 5:
        return  # it speaks MQTT 3.1.1
    port = free_port()
    lines = [f'websocket {{ host: "127.0.0.1", port: {port}, no_tls: true }}']
    back = Inbound("in", bytes, MqttRouting("test/in", qos=1), max_payload=200_000)
    async with open_nats(tmp_path, lines) as broker, open_client(broker.port, "test/out") as client:
        options = session.options(f"ws://127.0.0.1:{port}/mqtt")
        async with open_live([CHANNEL, back], options, domain) as live:
            await live.until_up()
            async with live.host.open_writer(CHANNEL) as writer, live.host.open_reader(back) as reader:
                for size in (0, 1, 125, 126, 65_535, 65_536, 150_000):  # where the frames' lengths change their form
                    await writer.send(b"x" * size)
                    assert (await client.receive()).payload == b"x" * size
                    client.publish("test/in", b"y" * size)
                    with trio.fail_after(10):
                        assert (await reader.receive()).value == b"y" * size
