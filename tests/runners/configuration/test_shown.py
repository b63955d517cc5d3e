"""What `taktora-trio config` shows: each value, where it came from, and no secret."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taktora_trio.operate.configured import as_json, as_text, literal, masked, shown
from taktora_trio.operate.example_file import example_file
from taktora_trio.runners.configuration.reading import Sources, read_configuration
from tests.runners.configuration.declared import Operator, deployment


def test_each_value_with_its_place(operator: Operator) -> None:
    configuration = operator.read(
        '[log]\nlevel = "debug"\n[connector]\nkeepalive = 9\n\n[connector.plant]\nkeepalive = 8\n[app]\nzone = "b"\n'
        "limits.low = 3\nset_point = 1",
        {"TAKTORA_POLICY_GATEWAY_INTENSITY": "4", "TAKTORA_APP_SET_POINT": "5", "TAKTORA_BROKER": "cloud=mqtt://c"},
        {"domain": "other", "gateway-policy": "period=7", "plugin-policy": "period=8", "app.zones": "x, y"},
    )
    file = operator.file
    found = {one.key: (one.value, one.origin) for one in shown(configuration)}
    assert {key: value for key, value in found.items() if value[1] != "default"} == {
        "domain": ("other", "--domain"),
        "log.level": ("debug", f"{file}:2"),
        "policy.gateway.intensity": (4, "TAKTORA_POLICY_GATEWAY_INTENSITY"),
        "policy.gateway.period": (7.0, "--gateway-policy"),
        "policy.plugin.period": (8.0, "--plugin-policy"),
        "connector.plant.keepalive": (8, f"{file}:7"),
        "connector.cloud.keepalive": (9, f"{file}:4"),
        "connector.cloud.broker": ("mqtt://c:1883", "TAKTORA_BROKER"),
        "app.zone": ("b", f"{file}:9"),
        "app.limits.low": (3.0, f"{file}:10"),
        "app.set_point": (5, "TAKTORA_APP_SET_POINT"),
        "app.zones": (["x", "y"], "--app.zones"),
    }
    assert found["connector.plant.broker"] == ("mqtt://localhost:1883", "default")
    assert "store.path" not in found, "it has no store"
    assert len(as_text(list(shown(configuration))).splitlines()) == len(found)
    assert json.loads(as_json(list(shown(configuration))))[0] == {
        "key": "domain",
        "value": "other",
        "origin": "--domain",
    }


SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="%#?/@:[]\\\"'"), min_size=12)


@settings(max_examples=40)
@given(secret=SECRETS.map("zq9{}".format), where=st.sampled_from(("url", "file", "token", "app url")))
def test_no_secret_is_ever_shown(secret: str, where: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    typed = {
        "url": [("broker", f"mqtt://me:{secret}@host")],
        "file": [("broker", "mqtt://me@host")],
        "token": [("app.api_token", secret)],
        "app url": [("app.zone", f"postgres://me:{secret}@host/x?token={secret}")],
    }[where]
    if where == "file":
        path = tmp_path_factory.getbasetemp() / "password"
        path.write_text(secret)
        typed.append(("broker-password-file", str(path)))
    configuration = read_configuration(deployment, Sources(typed=tuple(typed), environment=False), "in-process")
    lines = list(shown(configuration))
    for text in (as_text(lines), as_json(lines), repr(configuration), repr(lines)):
        assert secret not in text
    assert "***" in as_text(lines)


def test_where_a_password_is_there_that_is_shown(operator: Operator, tmp_path: Path) -> None:
    operator.file.touch(0o600)
    configuration = operator.read(
        'connector.plant.broker = "mqtt://a:geheim@h1,mqtt://b@h2"\nconnector.plant.broker-password = "s3cret"'
    )
    found = {one.key: (one.value, one.origin) for one in shown(configuration)}
    assert found["connector.plant.broker"][0] == ["mqtt://a:***@h1:1883", "mqtt://b:***@h2:1883"]
    assert found["connector.plant.broker-password-file"] == ("***", f"{operator.file}:2")


def test_masked() -> None:
    assert masked("ws://me:p@w@host/path?token=x") == "ws://me:***@host/path?***"
    assert masked({"a": ["x://y:z@h"], "b": None}) == {"a": ["x://y:***@h"], "b": None}
    assert masked("no url: a@b?c") == "no url: a@b?c"


@settings(max_examples=30)
@given(
    st.recursive(st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(), st.lists)
)
def test_a_literal_is_toml(value: object) -> None:
    try:
        text = literal(value)
        text.encode()
    except UnicodeEncodeError:
        return
    if "\\ud" not in text and "\\u007f" not in text:
        assert tomllib.loads(f"x = {text}")["x"] == value


def test_the_example_is_what_is_declared(operator: Operator) -> None:
    text = example_file(deployment)
    as_it_stands = operator.read(text)
    assert as_it_stands == operator.read()
    whole = re.sub(r"(?m)^# (?=[a-z_-]+(\.[a-z_-]+)* = |\[)", "", text)
    whole = re.sub("(?m)^brokers-are .*", "", whole)  # which is for several
    assert whole.count("\n[") == 9
    configuration = operator.read(whole)
    assert configuration.configured.connectors == deployment.connectors
    assert configuration.configured.app_settings == deployment.app_settings
    assert configuration.configured.gateway_policy == deployment.gateway_policy
    assert configuration.configured.plugin_policy == deployment.plugin_policy
    before = [re.sub(r" =.*", "", line) for line in text.splitlines() if line.startswith("# ") and "=" in line]
    assert len(before) > 80


def test_the_example_says_what_each_key_is_for(operator: Operator) -> None:
    lines = example_file(deployment).splitlines()
    bare = [line for before, line in pairwise(lines) if re.match("# [a-z_.-]+ =", line) and not before.startswith("##")]
    assert bare == []


def test_an_example_for_an_app_that_needs_something() -> None:
    @attrs.frozen
    class Needy:
        zone: str
        """Where it is."""
        size: int = 3
        names: list[str] = attrs.Factory(list)

    lines = example_file(attrs.evolve(deployment, settings=Needy)).splitlines()
    assert lines[-5:] == ["[app]", "## Where it is. It has to be given.", "# zone =", "# size = 3", "# names ="]
