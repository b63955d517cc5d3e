"""The check of a container: what it says, by which exit code, and that it starts without what it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import cast

import pytest

from taktora_trio import ConfigError, NoSuchDomain
from taktora_trio.cli import parse
from taktora_trio.operate.healthcheck import NotReady, plain_healthcheck
from taktora_trio.operate.liveness import NotAlive
from taktora_trio.transport.domain import Domain
from tests.vitals.pages import down, page, up

from .runs import open_living_run


def run(*arguments: str) -> int | None:
    """Run it as it is mostly typed, and by the parser: both say the same."""
    check = plain_healthcheck(["healthcheck", *arguments])
    assert check is not None
    return check()


def outcome(arguments: Sequence[str], plain: bool) -> object:
    command = plain_healthcheck(["healthcheck", *arguments]) if plain else parse(["healthcheck", *arguments])
    assert command is not None
    try:
        return command()
    except (NotAlive, NotReady, NoSuchDomain, ConfigError) as exc:
        return type(exc), str(exc)


@pytest.mark.parametrize("more", [(), ("--half=plugin",), ("--ready",), ("--half", "gateway", "--ready"), ("--json",)])
def test_a_run_that_works(domain: Domain, more: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--domain", domain.name, *more]
    with open_living_run(domain):
        assert outcome(arguments, plain=True) == outcome(arguments, plain=False) == 0
    plain, parsed = capsys.readouterr().out[:20], capsys.readouterr()
    assert plain
    assert parsed.err == ""


def test_a_broker_that_is_away_is_nothing_to_restart_for(domain: Domain) -> None:
    halves = [page(domain, name, connectors=[down()]) for name in ("plugin", "gateway")]
    with open_living_run(domain, *halves):
        assert run("--domain", domain.name) == 0
        for half in ([], ["--half", "gateway"]):
            with pytest.raises(NotReady, match=r"is not ready: connector mqtt: Down, connection refused"):
                run("--domain", domain.name, "--ready", *half)
        assert run("--domain", domain.name, "--ready", "--half", "plugin") == 0  # the app's container can't help it


def test_where_there_is_no_run_the_others_are_named(domain: Domain) -> None:
    for plain in (True, False):
        kind, text = cast("tuple[type, str]", outcome(["--domain", domain.name], plain))
        assert kind is NoSuchDomain
        assert f"there is no run in domain '{domain.name}'" in text


def test_a_failure_as_json(domain: Domain, capsys: pytest.CaptureFixture[str]) -> None:
    halves = [page(domain, name, connectors=[up(health="Connecting")]) for name in ("plugin", "gateway")]
    with open_living_run(domain, *halves):
        assert run("--domain", domain.name, "--ready", "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["healthy"] is False
    assert "connector mqtt: Connecting" in shown["checks"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        (),
        ("healthcheck",),
        ("healthcheck", "greenhouse:deployment"),
        ("healthcheck", "--help"),
        ("healthcheck", "--domain"),
        ("healthcheck", "--domain", "a", "--domain", "b"),
        ("healthcheck", "--domain", "a", "--half", "both"),
        ("healthcheck", "--domain", "a", "--max-age", "soon"),
        ("healthcheck", "--domain", "a", "--ready=yes"),
        ("healthcheck", "--domain", "a", "--config", "x"),
    ],
)
def test_what_is_not_plain_is_for_the_parser(arguments: Sequence[str]) -> None:
    assert plain_healthcheck(list(arguments)) is None


def test_it_starts_without_the_parser_and_what_a_run_needs() -> None:
    code = (
        "import sys; sys.argv = ['taktora-trio', 'healthcheck', '--domain', 'no-such-run-here'];"
        "from taktora_trio import __main__ as program\n"
        "try: program.main()\n"
        "except SystemExit as exc: print(exc.code)\n"
        "print([name for name in ('cyclopts', 'taktora_trio.connectors', 'taktora_trio.runners.deployment')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["3", "[]"]
    assert done.stderr.startswith("taktora-trio: there is no run in domain 'no-such-run-here': ")
