"""A new configuration: the gateway is replaced, and nothing else. What does not work gives way to what did."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from taktora_trio.operate.reloading import ask_to_reload
from taktora_trio.runners.parts.requests import Answer
from taktora_trio.transport.domain import Domain
from tests.command import MODES, Command, open_command
from tests.mosquitto import Mosquitto, find_mosquitto, free_port, open_mosquitto

APPS = "tests.deployment.reload_apps"
PATIENT = "reload-timeout = 60"
KEEPS = "the gateway goes on as it was"
WENT_BACK = "the gateway has the configuration again that it had before"


@attrs.define
class Plant:
    """A run whose broker wants TLS and a password, and the files that tell it of them."""

    run: Command
    domain: Domain
    folder: Path
    broker: Mosquitto
    authority: trustme.CA

    @property
    def url(self) -> str:
        return f"mqtts://app@localhost:{self.broker.port}"

    def write(self, name: str, text: str) -> None:
        """Replace a file in one step, as an operator's tools do."""
        part = self.folder / f"{name}.part"
        part.write_text(text)
        part.replace(self.folder / name)

    async def reload(self) -> Answer:
        return await trio.to_thread.run_sync(ask_to_reload, self.domain)


async def reload(domain: Domain) -> Answer:
    return await trio.to_thread.run_sync(ask_to_reload, domain)


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


@contextlib.asynccontextmanager
async def open_plant(mode: str, folder: Path, domain: Domain, *more: str) -> AsyncIterator[Plant]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    tool = find_mosquitto("mosquitto_passwd")
    for user in ("app", "other"):
        await trio.run_process([tool, "-b", str(passwords), user, f"{user}'s"], capture_stderr=True)
    lines = [
        *(f"certfile {folder}/cert.pem", f"keyfile {folder}/key.pem", f"password_file {passwords}", "user root"),
        *(f"listener {free_port()} 127.0.0.1", "allow_anonymous true"),
    ]
    async with open_mosquitto(folder, lines, anonymous=False) as broker:
        files = {
            "url": f"mqtts://app@localhost:{broker.port}",
            "secret": "app's",
            "ca.pem": pem(authority),
            "taktora.toml": PATIENT,
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        arguments = (
            *("run", f"{APPS}:deployment", "--mode", mode, "--domain", domain.name, *more),
            *("--config", str(folder / "taktora.toml")),
            *("--broker", f"@{folder / 'url'}", "--broker-password-file", str(folder / "secret")),
            *("--ca-file", str(folder / "ca.pem")),
        )
        async with open_command(*arguments) as run:
            yield Plant(run, domain, folder, broker, authority)


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_wrong_is_named_and_the_gateway_before_comes_back(
    mode: str, tmp_path: Path, domain: Domain
) -> None:
    async with open_plant(mode, tmp_path, domain) as plant:
        run = plant.run
        await run.until_printed("mqtt Up")
        before = {process.pid for process in run.tree()}

        assert await plant.reload() == Answer(0, ("nothing has changed that a gateway is started with", KEEPS))
        plant.write("secret", "app's\n")  # which is no other one
        assert (await plant.reload()).lines[0].startswith("nothing has changed")

        # What can't be, and what can't be reached, touches nothing.
        plant.write("ca.pem", "no certificate")
        answer = await plant.reload()
        assert (answer.code, answer.lines[1:]) == (2, (KEEPS,))
        assert answer.lines[0].startswith(f"the CA file {tmp_path / 'ca.pem'} can't be used")
        plant.write("ca.pem", pem(plant.authority))
        plant.write("url", "mqtts://app@localhost:port")
        assert (await plant.reload()).code == 2
        plant.write("url", "mqtts://app@no-such-host.invalid:8883")
        answer = await plant.reload()
        assert (answer.code, answer.lines[0], answer.lines[2:]) == (1, "changed: connector.broker", (KEEPS,))
        assert "mqtts://app@no-such-host.invalid:8883 can't be reached" in answer.lines[1]
        plant.write("url", plant.url)
        assert {process.pid for process in run.tree()} == before
        assert len([line for line in run.output if "mqtt " in line]) == 1

        # What is only seen by trying is tried.
        plant.write("secret", "another's")
        answer = await plant.reload()
        assert (answer.code, answer.lines[0], answer.lines[2:]) == (
            *(1, "changed: connector.broker-password-file"),
            (WENT_BACK,),
        )
        assert answer.lines[1].startswith("mqtt: Down (the broker refused the login: Not authorized")
        await run.until_logged("-> Up", count=2)
        plant.write("secret", "app's")

        plant.write("ca.pem", pem(trustme.CA()))
        plant.write("taktora.toml", "reload-timeout = 3")
        answer = await plant.reload()
        assert (answer.code, answer.lines[0], answer.lines[2:]) == (1, "changed: connector.ca-file", (WENT_BACK,))
        assert "certificate verify failed" in answer.lines[1]
        await run.until_logged("-> Up", count=3)  # by the authority that the file does not have any more

        plant.write("taktora.toml", PATIENT)
        plant.write("ca.pem", pem(plant.authority) + pem(trustme.CA()))
        plant.write("secret", "other's")
        plant.write("url", plant.url.replace("app@", "other@"))
        answer = await plant.reload()
        assert answer.lines == (
            "changed: connector.broker, connector.broker-password-file, connector.ca-file",
            "the new gateway is Up (mqtt)",
        )
        said = "\n".join(run.stderr)
        assert not [secret for secret in ("app's", "other's", "another's") if secret in said]
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
        assert len([line for line in run.output if "app " in line]) == 1, "it was never started again"
