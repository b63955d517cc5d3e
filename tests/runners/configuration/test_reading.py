"""A file, the environment and the command line: each wins over the one before, for every key."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import Backoff, ConfigError, Deployment, Store
from taktora_trio.runners.configuration.fields import changed
from taktora_trio.runners.configuration.from_program import as_typed
from taktora_trio.runners.configuration.keys import variable_for
from taktora_trio.runners.configuration.reading import Sources, changes, read_configuration, read_keys
from taktora_trio.runners.secrets import passwords_as_settings
from tests.runners.configuration.declared import AppSettings, Limits, Operator, deployment, options_of


def test_without_sources_all_is_as_declared(operator: Operator) -> None:
    configuration = operator.read()
    assert configuration.configured.connectors == deployment.connectors
    assert configuration.configured.app_settings == AppSettings()
    assert (configuration.domain, configuration.log, configuration.level) == ("house", "console", "info")
    assert configuration.file is None


FILE = """
domain = "upstairs"
gateway_thread = true

[log]
format = "json"
level = "warning"

[connector]
max-inflight = 9

[connector.plant]
broker = ["mqtt://10.0.0.5", "mqtt://10.0.0.6"]
brokers-are = "equal"
ca-file = "ca.pem"
reconnect = { initial = 1, maximum = 5 }
presence = "off"
alpn = ["mqtt"]

[policy.gateway]
intensity = 3
maximum = 2.5
watchdog = false

[store]
path = "kept"
max-bytes = 2_000_000

[app]
zone = "north"
folder = "data"
limits.high = 12
"""


def test_a_file(operator: Operator) -> None:
    configuration = operator.read(FILE.replace('ca-file = "ca.pem"\n', ""))
    plant, cloud = options_of(configuration, "plant"), options_of(configuration, "cloud")
    assert [one.host for one in plant.brokers] == ["10.0.0.5", "10.0.0.6"]
    assert (plant.brokers_are, plant.max_inflight, cloud.max_inflight) == ("equal", 9, 9)
    assert plant.reconnect == Backoff(initial=1.0, maximum=5.0, jitter=0.5)
    assert (plant.presence, plant.alpn, plant.keepalive, cloud.keepalive) == (None, ("mqtt",), 7, 30)
    policy = configuration.configured.gateway_policy
    assert (policy.intensity, policy.backoff.maximum, policy.watchdog, policy.stop_grace) == (3, 2.5, None, 2.5)
    folder = operator.file.parent
    assert configuration.configured.store == Store(path=folder / "kept", max_bytes=2_000_000)
    assert configuration.configured.app_settings == AppSettings("north", Limits(1.0, 12.0), folder=folder / "data")
    assert (configuration.domain, configuration.log, configuration.level) == ("upstairs", "json", "warning")
    assert configuration.configured.gateway_thread
    assert configuration.file == operator.file


WAYS = {
    "log.level": ("debug", "error", "critical"),
    "policy.gateway.intensity": ("1", "2", "3"),
    "policy.plugin.stop-grace": ("1.0", "2.0", "3.0"),
    "store.max-messages": ("1", "2", "3"),
    "fence.plugin.nice": ("4", "5", "6"),
    "fence.gateway.cpus": ("0", "1", "0-1"),
    "connector.plant.keepalive": ("11", "12", "13"),
    "connector.cloud.client-id": ("a", "b", "c"),
    "connector.keepalive": ("11", "12", "13"),
    "app.zone": ("x", "y", "z"),
    "app.limits.low": ("2.0", "3.0", "4.0"),
    "app.set_point": ("4", "5", "6"),
}
NUMBERS = ("intensity", "grace", "nice", "messages", "keepalive", "low", "set_point")


@settings(max_examples=60)
@given(given=st.dictionaries(st.sampled_from(sorted(WAYS)), st.sets(st.sampled_from((0, 1, 2)), min_size=1)))
def test_the_last_source_wins_whatever_else_is_given(given: dict[str, set[int]]) -> None:
    lines = {key: WAYS[key][0] for key, ways in given.items() if 0 in ways}
    text = "".join(f"{key} = {value if key.endswith(NUMBERS) else repr(value)}\n" for key, value in lines.items())
    variables = {variable_for(key): WAYS[key][1] for key, ways in given.items() if 1 in ways}
    options = tuple((key, WAYS[key][2]) for key, ways in given.items() if 2 in ways)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder, "settings")
        file.write_text(text)
        for name, value in variables.items():
            patch.setenv(name, value)
        configuration = read_configuration(deployment, Sources(typed=options, config=str(file)), "in-process")
    expected = {key: WAYS[key][max(ways)] for key, ways in given.items()}
    configured = configuration.configured

    def of(key: str, default: object) -> str:
        return expected.get(key, str(default))

    assert configuration.level == of("log.level", "info")
    assert str(configured.gateway_policy.intensity) == of("policy.gateway.intensity", 10)
    assert str(configured.plugin_policy.stop_grace) == of("policy.plugin.stop-grace", 2.0)
    assert str(configuration.fences.plugin.nice) == of("fence.plugin.nice", None)
    assert str(configuration.fences.gateway.cpus) == of("fence.gateway.cpus", None)
    assert str(configured.store and configured.store.max_messages) == of("store.max-messages", None)
    assert options_of(configuration, "cloud").client_id == expected.get("connector.cloud.client-id")
    settings = configured.app_settings
    assert settings.zone == of("app.zone", "a")
    assert str(settings.limits.low) == of("app.limits.low", 1.0)
    assert str(settings.set_point) == of("app.set_point", 0)
    assert str(options_of(configuration, "cloud").keepalive) == of("connector.keepalive", 30)
    # For a connector's own and for all, the later source wins; of the same source, its own.
    ways = [(max(given[key]), key) for key in ("connector.keepalive", "connector.plant.keepalive") if key in given]
    plant = str(options_of(configuration, "plant").keepalive)
    assert plant == (expected[max(ways)[1]] if ways else "7")


def test_it_is_read_again(operator: Operator, tmp_path: Path) -> None:
    """For a reload: the same sources, whose files have changed meanwhile."""
    (tmp_path / "password").write_text("first")
    sources = operator.sources(
        'connector.broker = "mqtt://me@a"\nconnector.broker-password-file = "password"\n',
        {"TAKTORA_CONNECTOR_KEEPALIVE": "12"},
        {"log.level": "debug"},
    )
    before = read_configuration(deployment, sources, "supervisor")
    again = read_configuration(deployment, sources, "supervisor")
    assert again == before
    assert changes(before, again) == ()
    operator.file.write_text(f"# moved down\n{operator.file.read_text()}")
    assert read_configuration(deployment, sources, "supervisor") == before

    (tmp_path / "password").write_text("second")
    after = read_configuration(deployment, sources, "supervisor")
    assert after != before
    assert changes(before, after) == ("connector.broker-password-file",)
    assert options_of(after, "plant").broker.password == b"second"

    operator.file.write_text('connector.broker = "mqtt://b"\napp.zone = "b"\npolicy.gateway.intensity = 2')
    after = read_configuration(deployment, sources, "supervisor")
    assert changes(before, after) == (
        *("app.zone", "connector.broker", "connector.broker-password-file", "policy.gateway.intensity"),
    )
    operator.file.write_text("connector.broker = 1")
    with pytest.raises(ConfigError, match=r"taktora.toml:1: connector.broker"):
        read_configuration(deployment, sources, "supervisor")


def test_what_can_be_read_only_once_counts_as_it_was(operator: Operator) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    try:
        sources = operator.sources(
            options={"broker": "mqtt://me@a", "broker-password-file": f"/proc/self/fd/{reading}"}
        )
        before = read_configuration(deployment, sources, "supervisor")
        assert options_of(before, "plant").broker.password == b"from a pipe"
        assert read_configuration(deployment, sources, "supervisor") == before
    finally:
        os.close(reading)


def test_each_half_has_what_is_its_own(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret")
    file = 'connector.broker = "mqtt://me@a"\nconnector.broker-password-file = "password"\napp.zone = "north"'
    plugin = operator.read(file, part="plugin")
    assert plugin.configured.connectors == deployment.connectors
    assert plugin.configured.app_settings.zone == "north"
    gateway = operator.read(file, part="gateway")
    assert options_of(gateway, "plant").broker.password == b"s3cret"
    assert gateway.configured.chosen_settings is None
    by_name = attrs.evolve(deployment, settings="no.such.module:Settings")
    operator.read(file, part="gateway", declared=by_name)
    operator.read(file, part="supervisor", declared=by_name)
    with pytest.raises(ConfigError, match=r"no module 'no.such.module'"):
        operator.read(file, part="plugin", declared=by_name)


def test_by_name_the_class_is_loaded_where_the_app_runs(operator: Operator) -> None:
    by_name = attrs.evolve(deployment, settings="tests.runners.configuration.declared:AppSettings")
    assert operator.read("app.zone = 'b'", declared=by_name).configured.app_settings == AppSettings(zone="b")
    assert operator.read("app.zone = 'b'", declared=by_name, part="supervisor").configured.app_settings is None


def test_settings_for_an_app_that_has_none(operator: Operator) -> None:
    without = Deployment("house", None, deployment.connectors)
    with pytest.raises(ConfigError, match=r"taktora.toml:1: app.zone: the app of deployment 'house' has no settings"):
        operator.read("app.zone = 'b'", declared=without)
    operator.read("[app]", declared=without)


def test_a_class_of_fields() -> None:
    assert changed(Store(), {"path": "x", "max_age": "off", "mark_backlog": "yes"}) == Store(
        path="x", mark_backlog=True
    )


def test_a_program_gives_any_key() -> None:
    given = as_typed(
        {"connector.plant.keepalive": 20, "gateway-thread": True, "keepalive": {"cloud": 21}, "app.zone": "z"}
    )
    configuration = read_configuration(deployment, Sources(typed=given), "in-process")
    assert [options_of(configuration, name).keepalive for name in ("plant", "cloud")] == [20, 21]
    assert configuration.configured.gateway_thread
    assert configuration.configured.app_settings.zone == "z"


def test_who_looks_at_a_run_knows_its_domain_and_its_store(operator: Operator) -> None:
    """Without what it needs no more: a password file that only the gateway's user can read, or the app's settings."""
    file = 'domain = "x"\nstore.max-messages = 3\nconnector.broker-password-file = "/no/such"\napp.zone = 3'
    declared, domain = read_keys(deployment, operator.sources(file))
    assert (domain, declared.store) == ("x", Store(max_messages=3))
    assert read_keys(deployment, operator.sources(options={"store": "/kept"}))[0].store == Store(path="/kept")


def test_an_overruled_value_is_left_out(operator: Operator) -> None:
    """The file's is for one connector, and the option's for all: the option's source counts more."""
    file = 'connector.plant.broker = "mqtt://file"\n[connector.cloud]\nclient-id = "c"'
    configuration = operator.read(file, options={"broker": "mqtt://option"})
    assert [value.text for _, value in configuration.settings.given] == ["c", "mqtt://option"]
    assert [options_of(configuration, name).broker.host for name in ("plant", "cloud")] == ["option", "option"]
    arguments, _ = configuration.settings.as_arguments()
    assert arguments == ["--client-id=cloud=c", "--broker=mqtt://option"]


def test_a_gateways_process_is_told_all_of_its_store(operator: Operator) -> None:
    configuration = operator.read('[store]\npath = "kept"\nmax-messages = 3\n[log]\nlevel = "debug"')
    arguments = [*configuration.arguments(), *configuration.store_arguments()]
    told = tuple(one.removeprefix("--").partition("=")[::2] for one in arguments if "=" in one)
    assert told == (
        ("log.level", "debug"),
        ("store", str(operator.file.parent / "kept")),
        ("store.max-messages", "3"),
    )
    gateway = read_configuration(deployment, Sources(typed=told, environment=False), "gateway")
    assert gateway.configured.store == configuration.configured.store


def test_secrets_of_the_environment_for_one_connector(operator: Operator) -> None:
    """A program's: the command starts itself anew without them (`secrets.py`)."""
    operator.patch.setenv("TAKTORA_CONNECTOR_PLANT_BROKER_PASSWORD", "s3cret")
    operator.patch.setenv("TAKTORA_CONNECTOR_PLANT_BROKER", "mqtt://me@plant")
    operator.patch.setenv("TAKTORA_CONNECTOR_CLOUD_BROKER", "mqtt://me:p4ss@cloud")
    with passwords_as_settings(take=True) as typed:
        configuration = read_configuration(deployment, Sources(typed=tuple(typed)), "in-process")
        overruled = (*typed, ("broker", "mqtt://another"))
        without = read_configuration(deployment, Sources(typed=overruled), "plugin", checks_needs=False)
    assert options_of(configuration, "plant").broker.password == b"s3cret"
    assert options_of(configuration, "cloud").broker.password == b"p4ss"
    assert {value.variable for _, value in configuration.settings.given} == {
        "TAKTORA_CONNECTOR_PLANT_BROKER_PASSWORD",
        "TAKTORA_CONNECTOR_PLANT_BROKER",
        "TAKTORA_CONNECTOR_CLOUD_BROKER",
    }
    assert options_of(without, "cloud").broker.host == "another"
    left = {name for name in os.environ if name.startswith("TAKTORA_CONNECTOR")}
    assert left == {"TAKTORA_CONNECTOR_PLANT_BROKER"}, "there is no secret in it"


def test_a_domain_that_is_none_is_named_with_its_place(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.file.write_text('domain = "a/b"')
    said = r"domain 'a/b': use 1 to 64 letters, digits, '\.', '_' or '-'$"
    for read in (lambda it: read_configuration(deployment, it, "supervisor"), lambda it: read_keys(deployment, it)):
        with pytest.raises(ConfigError, match=rf"taktora.toml:1: domain: {said}"):
            read(Sources(config=str(operator.file)))
        with pytest.raises(ConfigError, match=f"^--domain: {said}"):
            read(Sources(typed=(("domain", "a/b"),)))
    monkeypatch.setenv("TAKTORA_DOMAIN", "a/b")
    with pytest.raises(ConfigError, match=f"^TAKTORA_DOMAIN: {said}"):
        read_keys(deployment, Sources(config=os.devnull))
