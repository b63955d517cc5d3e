from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from taktora_trio import (
    BrokerAddress,
    ConfigError,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Store,
)
from taktora_trio.runners.configuration.settings_reading import read_settings
from taktora_trio.runners.loading import hiding_python, load_deployment
from taktora_trio.runners.options import given_store
from taktora_trio.runners.secrets import memory_file
from taktora_trio.runners.store_plan import plan_stores, stores_text
from tests.mosquitto import free_port
from tests.runners.configuration.declared import AppSettings

SPEED = Outbound("speed", float, MqttRouting("car/speed"))
NOT_DECODABLE: Any = list[int] | set[int]
BRAKE = Inbound("brake", float, MqttRouting("car/brake"))


async def app(host: ConnectorHost) -> None:
    pass


def sync_app(host: ConnectorHost) -> None:
    pass


async def yielding_app(host: ConnectorHost) -> AsyncIterator[int]:
    yield 1


class AppObject:
    async def __call__(self, host: ConnectorHost) -> None:
        pass


def connector(name: str = "mqtt", **options: Any) -> MqttConnector:
    channels = [attrs.evolve(channel) for channel in (SPEED, BRAKE)]  # a channel belongs to one connector
    return MqttConnector(channels, name=name, options=MqttOptions(**options))


def test_policies_by_default() -> None:
    declared = connector()
    deployment = Deployment("car", app, [declared])
    assert deployment.connectors == (declared,)
    assert deployment.gateway_policy.restart == "always"  # a gateway never ends of its own accord
    assert deployment.plugin_policy.restart == "on-failure"


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Deployment("a car", app, [connector()]), "deployment name 'a car'"),
        (lambda: Deployment("car", cast(Any, "app"), [connector()]), "its app is 'app'; it must be an async function"),
        (
            lambda: Deployment(cast(Any, app), cast(Any, "car"), [connector()]),
            "name comes first: write",
        ),
        (lambda: Deployment("car", app, []), "has no connectors"),
        (lambda: Deployment("car", app, [connector("a"), connector("b"), connector("a")]), "two connectors named 'a'"),
        (lambda: Deployment("car", app, cast(Any, connector())), "connectors are a list"),
        (lambda: Deployment("car", app, cast(Any, None)), "connectors are a list"),
        (lambda: Deployment("car", app, [cast(Any, SPEED)]), "is no connector"),
        (
            lambda: Deployment("car", app, [cast(Any, SPEED)]),
            "'speed' is a channel, and is no connector: write",
        ),
        (lambda: Deployment("car", app, [cast(Any, MqttConnector)]), "is a class, and is no connector: write MqttConn"),
        (lambda: Deployment("car", app, [cast(Any, 5)]), "5 is no connector"),
        (lambda: Deployment("car", app, cast(Any, "mqtt")), "connectors are a list"),
        (
            lambda: Deployment("car", cast(Any, [connector()]), cast(Any, app)),
            "write Deployment(name, app, [con",
        ),
        (lambda: Deployment("car", cast(Any, connector()), cast(Any, app)), "write Deployment(name, app, [con"),
        (lambda: Deployment("car", cast(Any, app(cast(Any, None))), [connector()]), "write app, without parentheses"),
        (lambda: Deployment("car", cast(Any, ConnectorHost), [connector()]), "its app is the class ConnectorHost"),
        (lambda: Deployment("car", cast(Any, sync_app), [connector()]), "write `async def sync_app(host)`"),
        (lambda: Deployment("car", cast(Any, yielding_app), [connector()]), "its app yielding_app has a `yield`"),
        (lambda: Deployment("car", app, [connector()], gateway_policy=cast(Any, 5)), "gateway_policy is of type int"),
        (lambda: Deployment("car", app, [connector()], gateway_thread=cast(Any, "no")), "gateway_thread is 'no'"),
        (lambda: MqttConnector(cast(Any, SPEED)), "channels are a list"),
        (lambda: Outbound("a", int, cast(Any, "topic")), "its routing is 'topic'; use the routing class"),
        (lambda: Outbound("a", int, cast(Any, MqttRouting)), "its routing is a class: write MqttRouting(...)"),
        (lambda: Outbound("a", cast(Any, MqttRouting("x")), cast(Any, int)), "write Outbound(name, type, routing)"),
        (lambda: MqttConnector([SPEED], options=cast(Any, {"keepalive": 5})), "options is of type dict"),
        (lambda: MqttConnector([SPEED], codec=cast(Any, "json")), "codec is of type str"),
        (lambda: MqttConnector([]), "connector 'mqtt' has no channels"),
        (lambda: MqttConnector([SPEED, BRAKE, SPEED]), "two channels named 'speed'"),
        (lambda: MqttConnector([SPEED], name="a.b"), "connector name 'a.b'"),
        (lambda: MqttConnector([cast(Any, "speed")]), "'speed' is no channel"),
        (lambda: MqttConnector([SPEED], codec=RawCodec()), "declare the channel's type as bytes"),
        (lambda: MqttConnector([Outbound("x", NOT_DECODABLE, MqttRouting("x"))]), "can't be decoded from json"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_declared(declare: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declare()
    assert message in str(caught.value)


def told(deployment: Deployment, *arguments: str) -> Deployment:
    """The deployment as it runs with these options."""
    typed = tuple(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    settings = read_settings(deployment, typed)
    configured = settings.applied_to(deployment)
    settings.needed_by(configured)
    return configured


def brokers(deployment: Deployment) -> list[BrokerAddress]:
    return [c.options.broker for c in deployment.connectors if isinstance(c, MqttConnector)]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("given\n")
    return file


def test_whatever_returns_something_to_await_may_be_an_app() -> None:
    for one in (app, lambda host: app(host), functools.partial(app), AppObject(), AppObject().__call__):
        Deployment("car", one, [connector()])


def test_a_broker_for_all_moves_every_connector_and_keeps_the_rest() -> None:
    url = "mqtts://me:s3cret@elsewhere"
    broker = BrokerAddress.parse(url)
    declared = Deployment("car", app, [connector("a", max_inflight=3, ca_file="a.pem"), connector("b")])
    moved = told(declared, f"--broker={url}")
    assert [c.options for c in moved.connectors if isinstance(c, MqttConnector)] == [
        MqttOptions(broker=broker, max_inflight=3, ca_file=Path("a.pem")),
        MqttOptions(broker=broker),
    ]
    assert (moved.name, moved.app) == (declared.name, declared.app)
    assert brokers(declared) == [BrokerAddress("localhost", 1883)] * 2
    assert brokers(moved) == [broker] * 2
    with_ca = told(declared, f"--broker={url}", "--ca-file=other.pem")
    assert [c.options.ca_file for c in with_ca.connectors if isinstance(c, MqttConnector)] == [Path("other.pem")] * 2


def test_a_password_goes_to_the_users_who_have_none(secret: Path) -> None:
    urls = ("mqtt://a@host", "mqtt://b:own@host", "mqtt://host")
    declared = Deployment("car", app, [connector(f"n{number}", broker=url) for number, url in enumerate(urls)])
    assert [address.password for address in brokers(told(declared, f"--broker-password-file={secret}"))] == [
        b"given",
        b"own",
        None,
    ]


def all_brokers(deployment: Deployment) -> list[list[str]]:
    return [[one.url for one in c.options.brokers] for c in deployment.connectors if isinstance(c, MqttConnector)]


def test_several_brokers_are_a_list_or_given_one_by_one_or_stand_in_a_file(tmp_path: Path) -> None:
    declared = Deployment("car", app, [connector("a"), connector("b", broker=["mqtt://x", "mqtt://y"])])
    file = tmp_path / "urls"
    file.write_text("mqtt://h1\nmqtts://me:p,w@h2\n")
    wanted = ["mqtt://h1:1883", "mqtts://me:p%2Cw@h2:8883"]
    for given in (
        ["--broker=mqtt://h1,mqtts://me:p,w@h2"],
        ["--broker=mqtt://h1", "--broker=mqtts://me:p,w@h2"],
        ["--broker=mqtt://h1 , mqtts://me:p,w@h2"],
        [f"--broker=@{file}"],
    ):
        assert all_brokers(told(declared, *given)) == [wanted] * 2
        only = told(declared, *[option.replace("=", "=a=", 1) for option in given])
        assert all_brokers(only) == [wanted, ["mqtt://x:1883", "mqtt://y:1883"]]


def test_a_password_for_all_goes_to_each_broker_of_a_list_that_waits_for_one(secret: Path) -> None:
    declared = Deployment("car", app, [connector("a")])
    urls = "--broker=mqtt://me@h1,mqtt://me:own@h2,mqtt://h3"
    [given] = all_brokers(told(declared, urls, f"--broker-password-file={secret}"))
    assert given == ["mqtt://me:given@h1:1883", "mqtt://me:own@h2:1883", "mqtt://h3:1883"]


def test_what_several_brokers_are_to_each_other() -> None:
    declared = Deployment("car", app, [connector("a")])
    moved = told(declared, "--broker=mqtt://h1,mqtt://h2", "--brokers-are=cluster")
    assert [c.options.brokers_are for c in moved.connectors if isinstance(c, MqttConnector)] == ["cluster"]
    with pytest.raises(ConfigError, match="--brokers-are is for several brokers, and there is one"):
        told(declared, "--brokers-are=cluster")
    with pytest.raises(ConfigError, match="--brokers-are is 'any'; it must be one of in-order, equal, cluster"):
        told(declared, "--broker=mqtt://h1,mqtt://h2", "--brokers-are=any")
    with pytest.raises(ConfigError, match="mqtt://h1:1883 is in the list twice"):
        told(declared, "--broker=mqtt://h1,mqtt://me@h1")


@pytest.mark.parametrize("brokers", [[], [3], [["mqtt://a"], "b"]])
def test_a_list_of_brokers_that_cannot_be(brokers: Any) -> None:
    with pytest.raises(ConfigError, match="broker"):
        MqttOptions(broker=brokers)


@pytest.mark.parametrize("url", ["mqtt://host", "mqtt://me:own@host"])
def test_a_password_that_nobody_waits_for_is_refused(url: str, secret: Path) -> None:
    with pytest.raises(ConfigError, match="no broker has a user that waits for one"):
        told(Deployment("car", app, [connector("a", broker=url)]), f"--broker-password-file={secret}")


def test_a_password_in_the_url_takes_the_place_of_the_variable_and_not_of_a_file(secret: Path) -> None:
    declared = Deployment("car", app, [connector("a")])
    url = "--broker=mqtt://me:own@host"
    fd, variable = memory_file(b"given", "TAKTORA_BROKER_PASSWORD")
    try:
        moved = told(declared, url, f"--broker-password-file={variable}")
    finally:
        os.close(fd)
    assert [address.password for address in brokers(moved)] == [b"own"]
    with pytest.raises(ConfigError, match="give one of them"):
        told(declared, url, f"--broker-password-file={secret}")


def test_each_connector_may_have_a_broker_and_a_password_of_its_own(secret: Path) -> None:
    declared = Deployment("car", app, [connector("a"), connector("b", broker="mqtt://own")])
    moved = told(declared, "--broker=a=mqtts://me@host", f"--broker-password-file=a={secret}")
    assert [address.url for address in brokers(moved)] == ["mqtts://me:given@host:8883", "mqtt://own:1883"]
    with pytest.raises(ConfigError, match="no broker has a user"):
        told(declared, "--broker=a=mqtts://me@host", f"--broker-password-file=b={secret}")


def test_a_ca_file_without_tls_is_refused() -> None:
    declared = Deployment("car", app, [connector("a")])
    with pytest.raises(ConfigError, match="no broker is reached by TLS"):
        told(declared, "--broker=mqtt://host", "--ca-file=ca.pem")


def test_what_a_warm_start_imports_beforehand_is_there() -> None:
    modules = list(connector().preload)
    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_a_channel_belongs_to_one_connector() -> None:
    with pytest.raises(ConfigError, match="'speed' is in two connectors"):
        Deployment("car", app, [MqttConnector([SPEED], name="a"), MqttConnector([SPEED], name="b")])


async def test_a_broker_in_memory_is_not_one_to_be_reached() -> None:
    nowhere = f"mqtt://127.0.0.1:{free_port()}"
    await connector(session="memory", broker=nowhere).preflight()
    with pytest.raises(ConfigError, match="can't be reached"):
        await connector(broker=nowhere).preflight()


def test_a_file_that_cannot_be_used_is_found_before_anything_is_started() -> None:
    Deployment("car", app, [connector(ca_file="/nonexistent/ca.pem")]).check_files()  # not read where there is no TLS
    with pytest.raises(ConfigError, match=r"the CA file /nonexistent/ca\.pem can't be used"):
        Deployment("car", app, [connector(broker="mqtts://host", ca_file="/nonexistent/ca.pem")]).check_files()


def test_a_deployment_does_not_show_its_password() -> None:
    deployment = Deployment("car", app, [connector(broker="mqtt://me:s3cret@host")])
    assert "s3cret" not in repr(deployment)
    assert "s3cret" not in repr(attrs.evolve(deployment, name="other"))


MODULE = """
from taktora_trio import Deployment, MqttConnector, MqttRouting, Outbound
async def app(host): ...
deployment = Deployment("car", app, [MqttConnector([Outbound("speed", float, MqttRouting("car/speed"))])])
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with some apps; what was imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "pkg_of_apps").mkdir()
    for name, code in {
        "app_good.py": MODULE,
        "pkg_of_apps/__init__.py": "",
        "pkg_of_apps/car.py": MODULE,
        "app_empty.py": "number = 3",
        "app_needs.py": "import a_package_that_is_not_there",
        "app_wrong.py": "from taktora_trio import MqttConnector\nMqttConnector([])",
        "app_raises.py": "1 / 0",
    }.items():
        (tmp_path / name).write_text(code)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["app_good:deployment", "pkg_of_apps.car:deployment"])
def test_load(folder: Path, target: str) -> None:
    assert load_deployment(target).name == "car"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("app_good", "'app_good' is no MODULE:DEPLOYMENT"),
        (":deployment", "is no MODULE:DEPLOYMENT"),
        ("app_good:", "is no MODULE:DEPLOYMENT"),
        (".app_good:deployment", "is no MODULE:DEPLOYMENT"),
        ("app_missing:deployment", "there is no module 'app_missing' here ({folder})"),
        ("pkg_of_apps.missing:deployment", "there is no module 'pkg_of_apps.missing' here ({folder})"),
        ("missing.car:deployment", "there is no module 'missing.car' here ({folder})"),
        ("app_needs:deployment", "module 'app_needs' needs 'a_package_that_is_not_there', which is not installed"),
        ("app_wrong:deployment", "module 'app_wrong': connector 'mqtt' has no channels"),
        ("app_good:deploy", "has no Deployment named 'deploy' (it has deployment)"),
        ("app_good:number", "int, not a Deployment named 'number' (it has deployment)"),
        ("app_empty:deployment", "has no Deployment named 'deployment' (it has none)"),
    ],
)
def test_load_says_what_is_wrong(folder: Path, target: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_deployment(target)
    assert message.format(folder=folder) in str(caught.value)


BROKEN = {
    "def (:": "SyntaxError: invalid syntax (app_broken.py, line 1) ({folder}/app_broken.py:1); to see the whole",
    "x = 1\n1 / 0": "ZeroDivisionError: division by zero ({folder}/app_broken.py:2)",
    "raise ValueError('a\\nb\\x1b')": r"ValueError: a\nb\x1b (",
    "class E(Exception):\n def __str__(self): raise ValueError\nraise E": "E: (its message can't be shown: ValueError)",
    "class E(BaseException): ...\nraise E('x')": "E: x",
    "from os import nothing": "ImportError: cannot import name 'nothing'",
    "import app_broken\nfrom app_broken import deployment": "ImportError: cannot import name 'deployment' from",
    "def __getattr__(name): raise ValueError(name)": "ValueError: deployment",
    "import sys; sys.exit(3)": "ends the program when it is imported (SystemExit: 3, {folder}/app_broken.py:1)",
    "x = 1\0": "null bytes",
}


@pytest.mark.parametrize("code", BROKEN)
def test_whatever_an_import_raises_is_told_in_one_line(folder: Path, code: str) -> None:
    (folder / "app_broken.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        load_deployment("app_broken:deployment")
    assert BROKEN[code].format(folder=folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, MemoryError])
def test_what_is_nobodys_input_passes(folder: Path, fatal: type[BaseException]) -> None:
    (folder / "app_fatal.py").write_text(f"raise {fatal.__name__}")
    with pytest.raises(fatal):
        load_deployment("app_fatal:deployment")


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("app_good.py:deployment", "write app_good:deployment"),
        ("app_good.py", "write app_good:deployment"),
        ("./app_good:deployment", "write app_good:deployment"),
        ("pkg_of_apps/car.py:mine", "write pkg_of_apps.car:mine"),
        ("{folder}/pkg_of_apps/car.py:mine", "write pkg_of_apps.car:mine"),
        ("/elsewhere/app.py:deployment", "go to its folder, and write app:deployment"),
    ],
)
def test_of_a_file_it_is_said_what_was_meant(folder: Path, target: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_deployment(target.format(folder=folder))
    assert str(caught.value).endswith(meant)


def test_of_a_module_named_as_one_of_pythons_it_is_said_which_file_it_is(folder: Path) -> None:
    (folder / "queue.py").write_text(MODULE)
    with pytest.raises(ConfigError) as caught:
        load_deployment("queue:deployment")
    assert str(caught.value).endswith(f"; rename {folder / 'queue.py'}, for that one has its name")
    assert hiding_python() == {"queue": folder / "queue.py"}


def test_so_it_is_of_one_named_as_a_package_that_is_installed(folder: Path) -> None:
    (folder / "trio").mkdir()
    (folder / "trio" / "__init__.py").write_text(MODULE)
    with pytest.raises(ConfigError) as caught:
        load_deployment("trio:deployment")
    assert f"rename {folder / 'trio' / '__init__.py'}" in str(caught.value)


def test_a_present_folder_that_was_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.syspath_prepend(folder)
    assert load_deployment("app_good:deployment").name == "car"
    with pytest.raises(ConfigError, match="the present folder was removed"):
        load_deployment("app_missing:deployment")
    monkeypatch.chdir(folder)


def client_ids(deployment: Deployment) -> list[str | None]:
    return [c.options.client_id for c in deployment.connectors if isinstance(c, MqttConnector)]


def test_a_client_id_is_the_only_connectors_and_part_of_each_of_several() -> None:
    own = Deployment("car", app, [connector(client_id="own")])
    two = Deployment("car", app, [connector("a"), connector("b")])
    assert client_ids(told(own, "--client-id=box")) == ["box"]
    assert client_ids(told(own)) == ["own"]
    assert client_ids(told(two, "--client-id=box")) == ["box-a", "box-b"]
    assert client_ids(told(two, "--client-id=box", "--client-id=b=other")) == ["box-a", "other"]
    with pytest.raises(ConfigError, match="client_id"):
        told(own, "--client-id=")


def test_which_connectors_are_named_by_the_machine_though_their_session_is_to_last() -> None:
    asks = Inbound("asks", float, MqttRouting("asks", qos=1))

    def warned(*channels: Any, **options: Any) -> bool:
        warning = MqttConnector(channels, options=MqttOptions(**options)).warning_of_temporary_name("a passing name")
        assert warning is None or "is made of a passing name" in warning
        return warning is not None

    assert warned(asks)
    assert not warned(asks, client_id="box")
    assert not warned(asks, persistent=False)
    assert not warned(asks, session="memory")
    assert not warned(BRAKE)  # QoS 0: there is nothing to keep
    assert warned(SPEED, persistent=True)


# The store


def test_a_store_is_for_channels_that_are_acknowledged() -> None:
    channels = [
        Outbound("q0", float, MqttRouting("a/0")),
        Outbound("q1", float, MqttRouting("a/1", qos=1)),
        Outbound("never", float, MqttRouting("a/2", qos=1), store="never"),
        Outbound("asked", float, MqttRouting("a/3"), store=Store(policy="always")),
    ]
    declared = Deployment("car", app, [MqttConnector(channels)], store=Store())
    store = declared.with_store(Path("/var/lib/car")).stores("mine")["mqtt"]
    assert (store.folder, store.identity) == (Path("/var/lib/car/outbound/mqtt"), "mine/mqtt")
    assert {name: policy.policy for name, policy in store.channels.items()} == {"q1": "when-behind", "asked": "always"}


def test_the_operator_gives_a_store_to_a_deployment_that_declares_none(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = Deployment("car", app, [MqttConnector([Outbound("q1", float, MqttRouting("a/1", qos=1))])])
    assert declared.stores("car") == {}
    assert declared.with_store(given_store(None)) is declared
    monkeypatch.setenv("TAKTORA_STORE", "/by/environment")
    assert declared.with_store(given_store(None)).stores("car")["mqtt"].folder == Path("/by/environment/outbound/mqtt")
    assert given_store("/by/option") == Path("/by/option")


@pytest.mark.parametrize(
    ("qos", "protocol", "stores", "complaint"),
    [
        (
            2,
            "5",
            [Store(catch_up="newest-first")],
            "catch_up is 'newest-first', and its messages are to arrive exactly",
        ),
        (1, "3.1.1", [Store(mark_backlog=True)], "'c0' sets mark_backlog: MQTT 3.1.1 carries neither metadata nor"),
        (1, "5", [Store(max_bytes=2**20), Store()], "channels 'c0' and 'c1' have stores with another max_bytes"),
        (1, "5", [Store(path=Path("/a")), Store(path=Path("/b"))], "have stores with another path, which"),
    ],
)
def test_policies_that_contradict_are_said(qos: Any, protocol: Any, stores: list[Store], complaint: str) -> None:
    channels = [
        Outbound(f"c{number}", float, MqttRouting(f"a/{number}", qos=qos), store=store)
        for number, store in enumerate(stores)
    ]
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        Deployment("car", app, [MqttConnector(channels, options=MqttOptions(protocol=protocol))])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_bytes", 0),
        ("max_messages", 0),
        ("max_age", 0),
        ("behind_after", 0),
        ("catch_up_rate", 0),
        ("sync_every", -1),
    ],
)
def test_a_limit_of_zero_is_refused(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"Store: {field} is {value}"):
        Store(**{field: value})  # type: ignore[arg-type]


def test_what_is_refused_says_what_may_be() -> None:
    with pytest.raises(ConfigError, match="sync_every is -1; it must be a number of seconds, from 0 to a year"):
        Store(sync_every=-1)
    with pytest.raises(ConfigError, match="catch_up_rate is 0; it must be a number of messages a second, more than 0"):
        Store(catch_up_rate=0)


def test_the_plan_shows_the_store(tmp_path: Path) -> None:
    declared = Deployment("car", app, [MqttConnector([Outbound("q1", float, MqttRouting("a/1", qos=1))])])
    (plan,) = plan_stores(declared.with_store(tmp_path))
    assert plan.folder == str(tmp_path / "outbound" / "mqtt")
    assert plan.free_bytes
    first, second = stores_text([plan]).splitlines()
    assert first.startswith(f"store of mqtt: at most 256 MiB in {plan.folder}, ")
    assert second == "    q1: when-behind, when full wait, catches up oldest-first"


@pytest.mark.parametrize(
    ("declared", "given", "said"),
    [
        (AppSettings, AppSettings, "its settings are the class AppSettings: give an object, AppSettings(...)"),
        (AppSettings, {"zone": "b"}, "its settings are an object of dict: give an object, AppSettings(...)"),
        (AppSettings, None, "its settings are an object of NoneType: give an object, AppSettings(...)"),
        (None, AppSettings("b"), "has no settings: declare their class, Deployment(settings=...)"),
    ],
)
def test_settings_that_are_none_of_the_declared_class(declared: type | None, given: object, said: str) -> None:
    deployment = Deployment("car", app, [MqttConnector([SPEED])], settings=declared)
    with pytest.raises(ConfigError, match=re.escape(said)):
        deployment.with_settings(given)
