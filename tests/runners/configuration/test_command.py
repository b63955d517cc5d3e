"""`taktora-trio config` takes what `run` takes."""

from __future__ import annotations

import pytest

from taktora_trio import ConfigError
from taktora_trio.cli import parse
from taktora_trio.runners.options import OWN_OPTIONS
from taktora_trio.runners.secrets import COMMANDS_WITH_PASSWORD

TARGET = "tests.runners.configuration.declared:deployment"


def test_all_that_a_run_takes(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--mode=split", "--for=3", "--await-broker", "--warm", "--reload-timeout=5", "--gateway-policy=intensity=3"]
    more = ["--plugin-policy=intensity=4", "--domain=d", "--log=json", "--store=/kept", "--app.zone=z", "--keepalive=9"]
    assert parse(["config", TARGET, "--config=/dev/null", *run, *more])() == 0
    shown = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert shown["reload-timeout"] == ["5.0", "--reload-timeout"]
    assert shown["await-peer"] == ["true", "--await-peer"]
    assert shown["warm"] == ["true", "--warm"]
    assert shown["policy.plugin.intensity"] == ["4", "--plugin-policy"]
    assert shown["store.path"] == ['"/kept"', "--store"]
    assert shown["connector.plant.keepalive"] == ["9", "--keepalive"]
    assert shown["app.zone"] == ['"z"', "--app.zone"]
    assert OWN_OPTIONS["run"] < OWN_OPTIONS["config"]
    assert "config" in COMMANDS_WITH_PASSWORD


def test_what_a_run_would_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--domain=a/b"], "a/b"),
        (["--broker=mqtts://x", "--ca-file=/no/such"], "the CA file /no/such can't be used"),
        (["--json", "--example"], "--example is a file in TOML"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse(["config", TARGET, "--config=/dev/null", *arguments])()
    assert capsys.readouterr().out == ""
