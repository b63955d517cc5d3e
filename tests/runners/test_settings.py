"""The settings that connectors offer at the command line, for a protocol that nobody knows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import pytest

from taktora_trio import ConfigError, Connector, ConnectorHost, Deployment, MqttRouting, Outbound
from taktora_trio.cli import app as command
from taktora_trio.cli import parse
from taktora_trio.connectors.settings import Setting, SettingValue, SettingValues
from taktora_trio.runners import settings_help
from taktora_trio.runners.configuration.from_program import as_typed
from taktora_trio.runners.configuration.settings import Settings
from taktora_trio.runners.configuration.settings_reading import read_settings
from taktora_trio.runners.options import OWN_OPTIONS
from taktora_trio.runners.secrets import memory_file


@attrs.frozen
class Radio(Connector):
    """A protocol with a setting of each kind."""

    settings: ClassVar[Sequence[Setting]] = (
        Setting("mast", "Where it is.", kind="url", words=frozenset({"toy"})),
        Setting("mast-password-file", "The file of its password.", kind="secret"),
        Setting("map", "A file.", kind="path"),
        Setting("call", "How it is called.", identifies=True),
    )
    supplied: ClassVar[list[str]] = []

    told: dict[str, SettingValue] = attrs.field(factory=dict, kw_only=True)

    def configured(self, values: SettingValues) -> Self:
        if "mast" in values and not values["mast"].text.startswith("air://"):
            raise ConfigError("a mast is air://...")
        return attrs.evolve(self, told=dict(values))

    def unused(self, values: SettingValues) -> Mapping[str, str]:
        assert "mast" not in values or self.told, "it is asked when it was configured"
        return {"map": "there is no map of the sea"} if self.name == "sea" and "map" in values else {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open_supply(cls, setting: str, word: str) -> AsyncIterator[str]:
        cls.supplied.append(f"{setting} {word} begins")
        yield "air://supplied"
        cls.supplied.append(f"{setting} {word} ends")

    async def preflight(self) -> None:
        raise ConfigError(f"{self.name} is out of reach")

    def client(self, *args: Any) -> Any:
        raise NotImplementedError


class Silent(Radio):
    settings: ClassVar[Sequence[Setting]] = ()


async def app(host: ConnectorHost) -> None:
    pass


def deployment(*names: str, kind: type[Radio] = Radio) -> Deployment:
    return Deployment("radio", app, [kind([Outbound("x", int, MqttRouting("x"))], name=name) for name in names])


def read(declared: Deployment, *arguments: str, **how: Any) -> Settings:
    asked = [argument.removeprefix("--").partition("=") for argument in arguments]
    typed = tuple((name, text if equals else None) for name, equals, text in asked)
    return read_settings(declared, typed, **how)


def told(declared: Deployment, settings: Settings) -> dict[str, dict[str, str]]:
    """Connector to setting to its text."""
    connectors = settings.applied_to(declared).connectors
    return {
        one.name: {name: value.text or value.secret.decode() for name, value in one.told.items()}
        for one in connectors
        if isinstance(one, Radio)
    }


def check(declared: Deployment, arguments: list[str]) -> None:
    settings = read(declared, *arguments)
    settings.needed_by(settings.applied_to(declared))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("s3cret\n")
    return tmp_path / "secret"


def test_a_value_is_for_all_or_for_the_connector_that_it_names(secret: Path) -> None:
    declared = deployment("land", "sea")
    settings = read(
        declared, "--mast=air://a", "--mast=sea=air://b?x=y", f"--mast-password-file=land={secret}", "--call=a=b"
    )
    assert told(declared, settings) == {
        "land": {"mast": "air://a", "mast-password-file": "s3cret", "call": "a=b"},
        "sea": {"mast": "air://b?x=y", "call": "a=b"},
    }
    assert settings.identify
    assert not read(declared, "--mast=air://a").identify


def test_a_program_gives_them_as_a_mapping() -> None:
    declared = deployment("land", "sea")
    given = as_typed({"call": "x", "map": Path("chart"), "mast": {"sea": "air://b", "land": "air://a"}})
    assert told(declared, read_settings(declared, given)) == {
        "land": {"call": "x", "map": "chart", "mast": "air://a"},
        "sea": {"call": "x", "map": "chart", "mast": "air://b"},
    }


def test_a_value_for_all_is_shared_where_several_have_the_setting() -> None:
    def shared(*connectors: Connector) -> bool:
        declared = Deployment("radio", app, connectors)
        return read(declared, "--call=x").given[0][1].is_shared

    channels = [Outbound(name, int, MqttRouting(name)) for name in ("a", "b", "c")]
    one, other, silent = Radio(channels[:1], name="a"), Radio(channels[1:2], name="b"), Silent(channels[2:], name="c")
    assert shared(one, other)
    assert not shared(one)
    assert not shared(one, silent)
    assert not read(deployment("a", "b"), "--call=b=x").given[0][1].is_shared


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mats=air://a"], "unknown option --mats for deployment 'radio': did you mean --mast?"),
        (["--wram"], "did you mean --warm?"),
        (["--x=1"], "the settings of its connectors are --call, --map, --mast, --mast-password-file"),
        (["--mast"], "--mast needs a value"),
        (["--mast=air://a", "--mast=air://b"], "--mast was given twice"),
        (["--call=sea=a", "--call=sea=b"], "--call was given twice for sea"),
        (["--mast=lnad=air://a"], "there is no connector 'lnad'; is 'land' meant?"),
        (["--mast=moon=air://a"], "a mast is air://... (there is no connector 'moon'; there is land, sea)"),
        (["--mast-password-file=moon=/x"], "moon=/x can't be read"),
        (["--mast-password-file=moon=/x"], "(there is no connector 'moon'; there is land, sea)"),
        (["--mast=@/no/such"], "the file of the mast URL /no/such can't be read"),
        (["--map="], "--map '' is no path"),
        (["--mast=toy"], "--mast toy is for `run`"),
        (["--mast=sea=toy"], "--mast toy is for `run`"),
        (["--map=sea=chart"], "there is no map of the sea"),
        (
            ["--call=x", "--call=land=y", "--call=sea=z"],
            "is given for each connector by its name, and once more",
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(deployment("land", "sea"), arguments)
    assert message in str(caught.value)


def test_what_one_connector_has_a_use_for_is_kept() -> None:
    declared = deployment("land", "sea")
    settings = read(declared, "--map=chart")
    assert settings.needed_by(settings.applied_to(declared)) == settings


def test_a_deployment_without_settings_says_so() -> None:
    with pytest.raises(ConfigError, match="the settings of its connectors are none"):
        read(deployment("a", kind=Silent), "--x=1")


def test_a_variable_counts_least(secret: Path) -> None:
    declared = deployment("land", "sea")
    fd, path = memory_file(b"from it", "TAKTORA_MAST_PASSWORD")
    try:
        variable, own = f"--mast-password-file={path}", f"--mast-password-file={secret}"
        only = f"--mast-password-file=sea={secret}"
        assert [v.variable for _, v in read(declared, variable).given] == ["TAKTORA_MAST_PASSWORD"]
        for arguments in ([variable, own], [own, variable]):
            assert told(declared, read(declared, *arguments))["land"] == {"mast-password-file": "s3cret"}
        assert told(declared, read(declared, variable, only)) == {
            "land": {"mast-password-file": "from it"},
            "sea": {"mast-password-file": "s3cret"},
        }
        with pytest.raises(ConfigError, match="the environment has TAKTORA_MAST_PASSWORD, but no connector"):
            read(deployment("a", kind=Silent), variable)
    finally:
        os.close(fd)


def test_a_half_without_use_for_secrets_does_not_read_them() -> None:
    declared = deployment("land")
    assert read(declared, "--mast-password-file=/no/such", secrets=False) == Settings()


async def test_a_word_is_supplied_once_for_all_who_were_given_it_and_ends_with_the_run() -> None:
    Radio.supplied.clear()
    declared = deployment("land", "sea", "air")
    settings = read(declared, "--mast=toy", "--mast=air=air://own", whole_run=True)
    waiting = settings.applied_to(declared)
    assert [one.told for one in waiting.connectors if isinstance(one, Radio)][:2] == [{}, {}]
    assert settings.needed_by(waiting) == settings
    async with settings.supplied(declared) as supplied:
        assert Radio.supplied == ["mast toy begins"]
        masts = {name: values["mast"] for name, values in told(declared, supplied).items()}
        assert masts == {"land": "air://supplied", "sea": "air://supplied", "air": "air://own"}
        with pytest.raises(ConfigError, match="air is out of reach"):  # what is supplied is there
            await settings.preflight(waiting)
    assert Radio.supplied == ["mast toy begins", "mast toy ends"]


def test_as_arguments_of_a_process_they_come_to_the_same_and_show_nothing_secret(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    declared = deployment("land", "sea")
    settings = read(
        declared,
        *("--mast=air://host", "--mast=sea=air://me:hidden-ü\udcff@host", "--call=-x", "--map=land=chart"),
        f"--mast-password-file={secret}",
    )
    arguments, descriptors = settings.as_arguments()
    try:
        assert len(descriptors) == 2
        shown = " ".join(arguments)
        assert "hidden" not in shown
        assert "s3cret" not in shown
        assert {"--mast=air://host", "--call=-x", f"--map=land={tmp_path / 'chart'}"} < set(arguments)
        again = told(declared, read(declared, *arguments))
        assert again["sea"] == told(declared, settings)["sea"]
        assert again["land"] == {**told(declared, settings)["land"], "map": str(tmp_path / "chart")}
    finally:
        for fd in descriptors:
            os.close(fd)


def test_a_gateway_of_one_connector_is_given_nothing_that_is_for_another(secret: Path) -> None:
    declared = deployment("land", "sea")
    password = f"--mast-password-file=sea={secret}"
    settings = read(declared, "--mast=air://host", "--mast=sea=air://me:hidden@host", password)
    assert settings.as_arguments(["land"]) == (["--mast=air://host"], [])
    arguments, descriptors = settings.as_arguments(["sea"])
    for fd in descriptors:
        os.close(fd)
    assert (len(arguments), len(descriptors)) == (3, 2)


def test_no_value_is_shown_by_its_repr() -> None:
    assert "hidden" not in repr(SettingValue("air://me:hidden@host", b"hidden"))


# The command


def test_options_that_a_command_does_not_know_are_settings_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    launched = "taktora_trio.runners.command.launch.launch"
    monkeypatch.setattr(launched, lambda run, shape: given.append((run.target, run.settings)))
    for arguments in (
        ["app:d", "--mode", "split", "--mast", "air://a", "--call=-x", "--map"],
        ["--mast", "air://a", "app:d", "--call=-x", "--map", "--mode", "split"],
        ["--mast", "air://a", "--call=-x", "--map", "--mode=split", "--", "app:d"],
    ):
        parse(["run", *arguments])()
    assert given == [("app:d", (("mast", "air://a"), ("call", "-x"), ("map", None)))] * 3


def test_a_command_without_settings_refuses_them() -> None:
    with pytest.raises(ConfigError, match="--mast"):
        parse(["plan", "app:d", "--mast", "air://a"])


def test_what_was_taken_for_a_setting_is_told_where_something_is_missing() -> None:
    with pytest.raises(ConfigError, match="taken for settings of connectors, with a value each: --wram"):
        parse(["run", "--mode", "split", "--wram", "app:d"])


@pytest.mark.parametrize("name", OWN_OPTIONS)
def test_the_commands_own_options_are_those_that_the_parser_knows(name: str) -> None:
    arguments = command[name].assemble_argument_collection()
    parsed = {
        option
        for one in arguments
        if one.parameter.parse is not False
        for option in one.names
        if option.startswith("--")
    }
    assert OWN_OPTIONS[name] == parsed


# Help


def test_help_lists_a_deployments_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = deployment("land", "sea")
    monkeypatch.setattr(settings_help, "load_deployment", lambda target: declared)
    text = settings_help.settings_help("app:d")
    assert "Settings of app:d:\n  connector land, connector sea:\n    --mast URL\n        Where it is.\n" in text
    monkeypatch.setattr(settings_help, "load_deployment", lambda target: deployment("a", kind=Silent))
    assert "connector a: none" in settings_help.settings_help("app:d")


def test_the_command_shows_both_helps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(settings_help, "load_deployment", lambda target: deployment("land"))
    for arguments in (["run", "app:d", "--help"], ["gateway", "-h", "app:d"]):
        parse(arguments)()
        shown = capsys.readouterr().out
        assert shown.index("--domain") < shown.index("Settings of app:d:") < shown.index("--mast URL")


def test_help_lists_those_of_this_package_where_no_deployment_can_be_loaded() -> None:
    for target in (None, "no_such:deployment"):
        text = settings_help.settings_help(target)
        assert "\n  mqtt:\n    --broker URL\n" in text
        assert ("there is no module 'no_such'" in text) == (target is not None)
