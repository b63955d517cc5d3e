"""A mistake is one line that names file, line and key, the variable or the option; and it repeats no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio import ConfigError, Deployment, MqttConnector, MqttRouting, Outbound
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from taktora_trio.runners.configuration.toml_file import read_toml
from tests.runners.configuration.declared import Operator, app, deployment

FILES = {
    'domian = "x"': "1: domian: there is no such key; is domain meant?",
    "[logg]\nlevel = 'x'": "2: logg.level: there is no such key; is log.level meant?",
    "[logg]": "1: logg: there is no such key; is log meant?",
    "log = 1": "1: log: it must be a table: write [log]",
    "store = '/kept'": "1: store: it must be a table: write [store]",
    '[app]\n"a\\nb" = 1': "2: app.a\\nb: the app has no such setting; it has",
    '"a\\nb" = 1': "1: a\\nb: there is no such key",
    '[connector."a\\nb"]\nx = 1': "1: connector.a\\nb: there is no connector 'a\\\\nb'; there is plant, cloud",
    "[log]\nlevel = 'loud'": "2: log.level: 'loud'; use debug, info, warning, error or critical",
    "[log]\nlevel = 3": '2: log.level: a whole number; it must be a text: write "3"',
    "[log]\nlevel = 'info'\nlevel = 'info'": "3: it is no TOML: Cannot overwrite a value",
    "await-broker = 'yes'": "1: await-broker: a text; it must be true or false",
    "await_broker = true\nawait-broker = true": "2: await-broker: it stands there twice, and first as await_broker",
    "connector = 1": "1: connector: it must be a table: write [connector.NAME]",
    "app = 1": "1: app: it must be a table: write [app]",
    "[connector.plnat]\nkeepalive = 1": "1: connector.plnat: there is no connector 'plnat'; is plant meant?",
    "[connector.moon]": "1: connector.moon: there is no connector 'moon'; there is plant, cloud",
    "[connector.plant]\n\nkeepalve = 1": "3: connector.plant.keepalve: there is no such key; is keepalive meant?",
    "[connector.plant]\nkeepalive = 'x'": "2: connector.plant.keepalive: a text; it must be a whole number",
    "[connector.plant]\nkeepalive = true": "2: connector.plant.keepalive: true or false; it must be a whole number",
    "[connector.plant]\nkeepalive = 0": "2: connector.plant.keepalive: MqttOptions: keepalive is 0; it must be a whole",
    "[connector]\nkeepalive = 0": "2: connector.keepalive: MqttOptions: keepalive is 0",
    "[connector.plant]\nbroker = 'localhost'": "2: connector.plant.broker: the broker URL must begin with mqtt://",
    "[connector.plant]\nbroker = ['mqtt://a', 1]": "2: connector.plant.broker: a list; it must be a text",
    "[connector.plant]\nca-file = 'x'": "2: connector.plant.ca-file: a CA file was given, but no broker",
    "[connector.plant]\nreconnect = { initial = 'x' }": "2: connector.plant.reconnect: initial is a text; it must be a",
    "[connector.plant]\nreconnect = { initail = 1 }": "2: connector.plant.reconnect: reconnect is 'initail=1'; write",
    "[connector.plant]\nbroker = '@nowhere'": "2: connector.plant.broker: the file of the broker URL ",
    "[connector.plant]\nalpn = [1]": "2: connector.plant.alpn: a list; it must be a list",
    "[policy.gatway]\nintensity = 1": "2: policy.gatway.intensity: there is no such key; is policy.gateway.intensity m",
    "[policy.gateway]\nintensity = -1": "2: policy.gateway.intensity: intensity is -1; it must be at least 0",
    "[policy.gateway]\nintensity = 1.5": "2: policy.gateway.intensity: a number; it must be a whole number",
    "[policy.gateway]\ninitial = 99": "2: policy.gateway.initial: backoff maximum is 5.0; it must be at least initial",
    "[store]\nmax-bytes = 1": "2: store.max-bytes: Store: max_bytes is 1; it must be a whole number of at least",
    "[store]\npath = ''": "1: store.path: ''",
    "[app]\nzon = 1": "2: app.zon: the app has no such setting; is zone meant?",
    "[app]\nzone = 1": "2: app.zone: expected str, got int",
    "[app]\nlimits = 1": "2: app.limits: it is a table, with limits.low, limits.high",
    "[app.limits]\nlow = 10": "2: app.limits.low: high is 9.0; it must be above low",
    "[app]\nlimits.hgih = 1": "2: app.limits.hgih: the app has no such setting; is limits.high meant?",
    "[fence]\nnice = 3": "2: fence.nice: there is no such key; is fence.plugin.nice meant?",
    "[fence.plguin]\nnice = 3": "2: fence.plguin.nice: there is no such key; is fence.plugin.nice meant?",
    "[fence.plugin]\nmemory = 90_000_000": "2: fence.plugin.memory: there is no such key; is fence.plugin.nice meant?",
    "[fence.gateway]\nfifo = 3": "2: fence.gateway.fifo: there is no such key; is",
    "[fence.gateway]\ncpus = 0": '2: fence.gateway.cpus: a whole number; it must be a text: write "0"',
    "[fence.gateway]\ncpus = 'all'": "2: fence.gateway.cpus: GatewayFence: cpus is 'all'; write numbers of CPUs",
    "[fence.gateway]\nmemory = 5": "2: fence.gateway.memory: GatewayFence: memory is 5; it must be a whole",
    "[fence.plugin]\nnice = 1\nfifo = 100": "3: fence.plugin.fifo: PluginFence: fifo is 100; it must be a whole",
    "[fence.plugin]\nnice = 20": "2: fence.plugin.nice: PluginFence: nice is 20; it must be a whole",
    "a = [": "1: it is no TOML: ",
}


def said(operator: Operator, *given: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        operator.read(*given, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{operator.file}:", "").replace(str(operator.file), "FILE")


@pytest.mark.parametrize(("text", "message"), FILES.items())
def test_a_file(operator: Operator, text: str, message: str) -> None:
    assert said(operator, text).startswith(message.replace("1: store.path", "2: store.path"))


VARIABLES = {
    "TAKTORA_LOG_LEVL=debug": "TAKTORA_LOG_LEVL: there is no such setting; is TAKTORA_LOG_LEVEL meant?",
    "TAKTORA_BROKR=mqtt://x": "TAKTORA_BROKR: there is no such setting; is TAKTORA_BROKER meant?",
    "TAKTORA_CONNECTOR_MOON_THING=1": "TAKTORA_CONNECTOR_MOON_THING: there is no such setting; `taktora-trio config`",
    "TAKTORA_APP_ZNOE=1": "TAKTORA_APP_ZNOE: the app has no such setting; is TAKTORA_APP_ZONE meant?",
    "TAKTORA_APP_SET_POINT=x": "TAKTORA_APP_SET_POINT: expected int, got str",
    "TAKTORA_LOG_LEVEL=loud": "TAKTORA_LOG_LEVEL: log.level is 'loud'; use debug",
    "TAKTORA_KEEPALIVE=x": "TAKTORA_KEEPALIVE: keepalive is 'x'; it must be a whole number",
    "TAKTORA_GATEWAY_POLICY=x=1": "TAKTORA_GATEWAY_POLICY: a policy has no field 'x'",
    "TAKTORA_FENCE_PLUGIN_FIFO=x": "TAKTORA_FENCE_PLUGIN_FIFO: fence.plugin.fifo is 'x'; it must be a whole number",
    "TAKTORA_FENCE_PLUGIN_FIFI=1": "TAKTORA_FENCE_PLUGIN_FIFI: there is no such setting; is TAKTORA_FENCE_PLUGIN_FIFO",
    "TAKTORA_BROKER=nonsense": "TAKTORA_BROKER: the broker URL must begin with",
    "TAKTORA_CONFIG=/no/such": "the configuration /no/such can't be read: No such file or directory",
}


@pytest.mark.parametrize(("variable", "message"), VARIABLES.items())
def test_a_variable(operator: Operator, variable: str, message: str) -> None:
    name, _, text = variable.partition("=")
    assert said(operator, variables={name: text}).startswith(message)


@pytest.mark.parametrize(
    "variable",
    [
        *("TAKTORA_STRICT", "TAKTORA_TEST_STORE_NAME", "TAKTORA_SERVICE_HOST", "TAKTORA_PORT", "TAKTORA_GREENHOUSE"),
        *("TAKTORA_APP_SERVICE_HOST", "TAKTORA_APP_PORT_80_TCP_ADDR", "TAKTORA_CONNECTOR_PORT"),
    ],
)
def test_a_variable_of_another_is_left_alone(operator: Operator, variable: str) -> None:
    assert operator.read() == operator.read(variables={variable: "tcp://10.0.0.1:80"})


def test_an_empty_variable_is_none(operator: Operator) -> None:
    assert operator.read() == operator.read(variables={"TAKTORA_LOG_LEVEL": "", "TAKTORA_APP_ZNOE": ""})


def test_two_variables_for_one_thing(operator: Operator) -> None:
    assert said(operator, variables={"TAKTORA_LOG": "json", "TAKTORA_LOG_FORMAT": "json"}) == (
        "TAKTORA_LOG and TAKTORA_LOG_FORMAT are the same setting: give one of them"
    )


def test_a_variable_that_may_stand_for_two_things(operator: Operator) -> None:
    connectors = [MqttConnector([Outbound(n, int, MqttRouting(n))], name=n) for n in ("a-b", "a_b")]
    declared = Deployment("two", app, connectors)
    message = said(operator, variables={"TAKTORA_CONNECTOR_A_B_KEEPALIVE": "3"}, declared=declared)
    assert message == (
        "TAKTORA_CONNECTOR_A_B_KEEPALIVE: it may stand for connector.a-b.keepalive or for connector.a_b.keepalive: give"
        " that in a file, or by an option"
    )


OPTIONS = {
    "log.levle=debug": "unknown option --log.levle: did you mean --log.level?",
    "log.level=loud": "--log.level: log.level is 'loud'",
    "keepalve=3": "unknown option --keepalve for deployment 'house': did you mean --keepalive?",
    "connector.plnat.broker=x": "--connector.plnat.broker: there is no connector 'plnat'; is plant meant?",
    "app.zoen=x": "--app.zoen: the app has no such setting; is zone meant?",
    "app.set_point=x": "--app.set_point: expected int, got str",
    "app.limits.low=20": "--app.limits.low: high is 9.0; it must be above low",
    "gateway-thread=perhaps": "--gateway-thread: gateway-thread is 'perhaps'; use true or false",
    "store=": "--store: store.path is '', and no path of a file",
}


@pytest.mark.parametrize(("option", "message"), OPTIONS.items())
def test_an_option(operator: Operator, option: str, message: str) -> None:
    name, _, text = option.partition("=")
    assert message in said(operator, options={name: text})


def test_an_option_without_its_value_and_one_given_twice() -> None:
    for typed, message in (
        ((("app.zone", None),), "--app.zone needs a value"),
        ((("log.level", "info"), ("log.level", "debug")), "--log.level was given twice"),
        ((("app.zone", "a"), ("app.zone", "b")), "--app.zone was given twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_configuration(deployment, Sources(typed=typed, environment=False), "in-process")


def test_a_setting_that_is_needed(operator: Operator) -> None:
    import attrs

    @attrs.frozen
    class Needy:
        zone: str

    declared = attrs.evolve(deployment, settings=Needy)
    with pytest.raises(
        ConfigError, match=r"needs the setting zone: give app.zone in a file, TAKTORA_APP_ZONE, or --app"
    ):
        operator.read(declared=declared)
    assert operator.read(options={"app.zone": "x"}, declared=declared).configured.app_settings == Needy("x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "1: it is not in UTF-8"),
        (b"a = 1\n\xff", "2: it is not in UTF-8"),
        (b"\xff\xfed\x00", "1: it is not in UTF-8"),
        (b"a = " + b"[" * 5000, "FILE: it is nested too deeply"),
        (b"a = " + b"9" * 5000, "FILE: it is no TOML"),
        (b"#" * (2**20 + 1), "the configuration FILE has more than 1048576 bytes"),
        (b"a = 1\x00", "1: it is no TOML"),
    ],
)
def test_what_is_no_text(operator: Operator, content: bytes, message: str) -> None:
    operator.file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(operator.file)
    assert (
        str(caught.value)
        .replace(f"{operator.file}:", "")
        .replace(str(operator.file), "FILE")
        .strip()
        .startswith(message.removeprefix("FILE: "))
    )


def test_an_empty_file_and_one_of_windows(operator: Operator) -> None:
    assert operator.read("") == operator.read()
    operator.file.write_bytes(b'\xef\xbb\xbf[log]\r\nlevel = "debug"\r\n')
    assert read_toml(operator.file).place("log", "level") == f"{operator.file}:2"


def test_a_file_that_anybody_can_write(operator: Operator) -> None:
    operator.file.touch()
    operator.file.chmod(0o606)
    assert said(operator, "") == "the configuration FILE can be written by anybody: chmod o-w FILE"


def test_a_folder(operator: Operator, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the configuration .* can't be read: Is a directory"):
        read_toml(tmp_path)


@pytest.mark.parametrize(
    ("mode", "is_private"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
@pytest.mark.parametrize(
    "line", ['broker = "mqtt://me:s3cret@host"', 'broker = "mqtt://me@host"\nbroker-password = "s3cret"']
)
def test_a_secret_in_a_file_that_others_can_read(operator: Operator, line: str, mode: int, is_private: bool) -> None:
    operator.file.touch()
    operator.file.chmod(mode)
    if is_private:
        configuration = operator.read(f"[connector.plant]\n{line}")
        assert "s3cret" not in repr(configuration)
    else:
        message = said(operator, f"[connector.plant]\n{line}")
        assert "others can read the file: chmod 600 FILE" in message
        assert "s3cret" not in message


@given(
    where=st.sampled_from(
        ["connector.plant.broker", "connector.plant.broker-password", "connector.keepalive", "app.api_token"]
    ),
    rest=st.text(max_size=8),
)
@settings(max_examples=50)
def test_no_error_repeats_a_secret(where: str, rest: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = "zq9-geheim"
    file = tmp_path_factory.getbasetemp() / "secrets.toml"
    text = f"mqtt://me:{secret}@{rest}" if where.endswith("broker") else f"{secret}"
    quoted = re.sub(r'["\\\x00-\x1f\x7f]', "", text).encode("utf-8", "replace").decode()
    file.write_text(f'{where} = "{quoted}"\napp.set_point = "x"\n')
    file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_configuration(deployment, Sources(config=str(file)), "in-process")
    assert secret not in str(caught.value)


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    message = ""
    try:
        read_toml(file).place("a")
    except ConfigError as exc:
        message = str(exc)
    assert message.isprintable()


KEY = st.from_regex(r"[a-z]{1,3}|\"[a-z#\[\]=. ']{1,4}\"", fullmatch=True)
VALUE = st.sampled_from(
    [
        "1",
        '"#["',
        "'''\n]\n'''",
        '"""\n[x]\n\\""""',
        "[\n1, # ]\n2 ]",
        "{ a = '}' }",
        "'\"'",
        '"\\""',
        '"""a""""',
        "[[1],\n[]]",
    ]
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.lists(KEY, min_size=1, max_size=2), VALUE, st.sampled_from(["", " # '\"[", "\n\n# x = ["])))
)
def test_each_key_is_found_in_its_line(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[list[str], str, str]]
) -> None:
    """By a file whose tables have one key each, so that it is known where each is."""
    text, expected = "", {}
    for number, (names, value, comment) in enumerate(parts):
        text += f"[t{number}.sub]{comment}\n"
        expected[f"t{number}", "sub", *(name.strip('"') for name in names)] = text.count("\n") + 1
        text += f"{'.'.join(names)} = {value}{comment}\n"
    file = tmp_path_factory.getbasetemp() / "lines.toml"
    file.write_text(text)
    read = read_toml(file)
    assert {key: int(read.place(*key).rpartition(":")[2]) for key in expected} == expected
