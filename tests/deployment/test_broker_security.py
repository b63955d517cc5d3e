"""Logins and TLS: what is refused is `Down`, what is secret is shown nowhere."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from pathlib import Path

import pytest
import trio
import trustme

from taktora_trio.transport.domain import Domain
from tests.command import MODES, open_command
from tests.mosquitto import Mosquitto, find_mosquitto, open_mosquitto

SECRET = "s3cr3t-p@ss/word"
QUOTED = "s3cr3t-p%40ss%2Fword"
ECHO = "examples.echo:deployment"


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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["url", "file", "pipe", "variable"])
async def test_a_password_works_and_is_never_shown(
    mode: str, way: str, tmp_path: Path, password_lines: list[str], domain: Domain
) -> None:
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        address = f"127.0.0.1:{broker.port}"
        url, more, env = f"mqtt://app@{address}", [], {}
        if way == "url":
            url = f"mqtt://app:{QUOTED}@{address}"
        elif way == "file":
            (tmp_path / "password").write_text(SECRET + "\n")
            more = ["--broker-password-file", str(tmp_path / "password")]
        elif way == "pipe":  # as of a shell's <(command): it can be read only once
            os.mkfifo(tmp_path / "password")
            more = ["--broker-password-file", str(tmp_path / "password")]
        else:
            env = {"TAKTORA_BROKER_PASSWORD": SECRET}
        async with open_command(
            *("run", ECHO, "--mode", mode, "--broker", url, "--domain", domain.name), *more, env=env
        ) as run:
            if way == "pipe":
                await trio.to_thread.run_sync((tmp_path / "password").write_text, SECRET)
            await run.until_logged("-> Up")
            lines = shown_anywhere([process.pid for process in run.tree()])
            assert SECRET not in environments([child.pid for child in run.tree()[1:]])
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        said = lines + "\n".join(run.stderr + run.output)
        assert "app@127.0.0.1" in said
        assert SECRET not in said
        assert QUOTED not in said


@pytest.mark.parametrize("script", ["in_process", "split"])
async def test_the_runner_scripts_hide_it_too(
    script: str, tmp_path: Path, password_lines: list[str], domain: Domain
) -> None:
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        url = f"mqtt://app:{QUOTED}@127.0.0.1:{broker.port}"
        arguments = (ECHO, "--broker", url, "--domain", domain.name)
        async with open_command(*arguments, program=[f"supervisors/{script}.py"]) as run:
            await run.until_logged("-> Up")
            lines = shown_anywhere([process.pid for process in run.tree()])
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        assert "app@127.0.0.1" in lines
        assert QUOTED not in lines


@pytest.mark.parametrize("mode", MODES)
async def test_a_refused_login_is_down_and_not_retried(
    mode: str, tmp_path: Path, password_lines: list[str], domain: Domain
) -> None:
    async with open_mosquitto(tmp_path, password_lines, anonymous=False) as broker:
        url = f"mqtt://app:wrong@127.0.0.1:{broker.port}"
        async with open_command("run", ECHO, "--mode", mode, "--broker", url, "--domain", domain.name) as run:
            down = await run.until_logged("Connecting -> Down (the broker refused the login: Not authorized)")
            await trio.sleep(1)  # four times the delay after which it would be tried again
            run.signal(signal.SIGTERM)
            assert await run.wait(10) == 0
        refusals = [entry for entry in run.log if "not tried again" in entry["message"]]
        assert len(refusals) == 1, "it was tried again"
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
            await run.until_logged("-> Up")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0
        async with open_command(*common) as run:  # the system's authorities don't know ours
            await run.until_logged("cannot reach", "certificate verify failed")
            run.signal(signal.SIGTERM)
            assert await run.wait(5) == 0


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
