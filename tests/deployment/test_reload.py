"""A new configuration: the gateway is replaced, and nothing else. What does not work gives way to what did."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from taktora_trio.operate.controlling import ask_who_supervises
from taktora_trio.runners.parts.requests import Answer
from taktora_trio.transport.domain import Domain
from tests.client import Client, open_client
from tests.command import MODES, Command, open_command, run_command
from tests.deployment.reload_apps import BREAKS
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
        return await trio.to_thread.run_sync(ask_who_supervises, self.domain, "reload")


async def reload(domain: Domain) -> Answer:
    return await trio.to_thread.run_sync(ask_who_supervises, domain, "reload")


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
        assert not [line for line in run.output if "mqtt Down" in line]

        # What is only seen by trying is tried.
        plant.write("secret", "another's")
        answer = await plant.reload()
        assert (answer.code, answer.lines[0], answer.lines[2:]) == (
            *(1, "changed: connector.broker-password-file"),
            (WENT_BACK,),
        )
        assert answer.lines[1].startswith("mqtt: Down (the broker refused the login: Not authorized")
        await run.until_event("health-up", count=2)
        plant.write("secret", "app's")

        plant.write("ca.pem", pem(trustme.CA()))
        plant.write("taktora.toml", "reload-timeout = 3")
        answer = await plant.reload()
        assert (answer.code, answer.lines[0], answer.lines[2:]) == (1, "changed: connector.ca-file", (WENT_BACK,))
        assert "certificate verify failed" in answer.lines[1]
        await run.until_event("health-up", count=3)  # by the authority that the file does not have any more

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


# Nothing is lost


@attrs.define
class Sending:
    """A run that sends and gets numbers, with a file of settings."""

    run: Command
    domain: Domain
    file: Path
    client: Client
    published: int = 0

    def configure(self, *lines: str) -> None:
        part = self.file.with_suffix(".part")
        part.write_text("\n".join(["reload-timeout = 60", "[connector]", *lines]))
        part.replace(self.file)

    async def reload(self) -> Answer:
        return await reload(self.domain)

    async def publish(self) -> None:
        """Serve: publish numbers without a pause."""
        while True:
            self.client.publish("reload/come", b"%d" % self.published)
            self.published += 1
            await trio.sleep(0.005)

    async def until_complete(self) -> None:
        """Have the app stop sending, and wait until everything that was sent has come, on both sides."""
        if self.published:
            await self.run.until_printed(f"come {self.published - 1}")
        await self.client.publish_acknowledged("reload/stop", b"0")
        sent = {}
        for channel in ("once", "least"):
            await self.run.until_printed(f"sent {channel} ")
            [sent[channel]] = self.numbers(f"sent {channel}")
        got: dict[str, list[int]] = {channel: [] for channel in sent}
        while any(len(set(got[channel])) < sent[channel] for channel in sent):
            message = await self.client.receive()
            got[message.topic.removeprefix("reload/")].append(int(message.payload))
        assert got["once"] == list(range(sent["once"]))
        assert set(self.numbers("come")) == set(range(self.published))

    def numbers(self, word: str) -> list[int]:
        """Return what the app has told after this word."""
        found = [re.search(rf"\b{word} (\d+)", line) for line in self.run.output]
        return [int(match[1]) for match in found if match]


@contextlib.asynccontextmanager
async def open_sending(
    mode: str, folder: Path, domain: Domain, broker: Mosquitto, env: dict[str, str] | None = None
) -> AsyncIterator[Sending]:
    file = folder / "taktora.toml"
    shape, thread = ("in-process", "true") if mode == "in-thread" else (mode, "false")
    arguments = ("run", f"{APPS}:deployment", "--mode", shape, "--domain", domain.name, "--gateway-thread", thread)
    async with open_client(broker.port, "reload/once", "reload/least", qos=2) as client:
        file.write_text(f"[connector]\nbroker = '{broker.url}'")
        async with open_command(*arguments, "--config", str(file), env=env) as run:
            await run.until_printed("mqtt Up")
            yield Sending(run, domain, file, client)


@pytest.mark.parametrize("mode", [*MODES, "in-thread"])
async def test_nothing_is_lost_while_gateways_come_and_go(
    mode: str, tmp_path: Path, domain: Domain, broker: Mosquitto
) -> None:
    ours = f"broker = '{broker.url}'"
    async with (
        open_mosquitto(tmp_path, anonymous=False) as refusing,
        open_sending(mode, tmp_path, domain, broker) as sending,
    ):
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await sending.reload())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sending.publish)
            sending.configure(ours, "keepalive = 20")
            async with trio.open_nursery() as asking:  # the second one comes during the first
                asking.start_soon(ask)
                asking.start_soon(ask)
            done = ("changed: connector.keepalive", "the new gateway is Up (mqtt)")
            assert done in [answer.lines for answer in answers]
            assert [answer.code for answer in answers] == [0, 0]
            sending.configure(f"broker = '{refusing.url}'", "keepalive = 20")
            assert (await sending.reload()).code == 1
            sending.configure(ours, "keepalive = 10", "max-inflight = 8")
            assert (await sending.reload()).lines[0] == "changed: connector.keepalive, connector.max-inflight"
            nursery.cancel_scope.cancel()
        await sending.until_complete()
        assert await sending.run.wait() == 0
        assert len([line for line in sending.run.output if "app " in line]) == 1, "it was never started again"


async def test_a_gateway_that_was_given_up_starts_again(tmp_path: Path, domain: Domain, broker: Mosquitto) -> None:
    """Also with a new configuration, which then is in the place of the restart that is due."""
    cause = tmp_path / "breaks"
    async with open_sending("split", tmp_path, domain, broker, {BREAKS: str(cause)}) as sending:
        run, ours = sending.run, f"broker = '{broker.url}'"
        for count, lines in ((1, [ours]), (2, [ours, "keepalive = 20"])):
            cause.touch()
            run.signal(signal.SIGKILL, run.half("gateway"))
            await run.until_event("given-up", half="gateway", count=count)
            cause.unlink()
            sending.configure(*lines)
            answer = await sending.reload()
            assert answer.code == 0
            if count == 1:
                assert answer.lines[-1] == "the gateway was given up, and starts again"
                await run.until_event("health-up", count=2)
            else:
                assert answer.lines == ("changed: connector.keepalive", "the new gateway is Up (mqtt)")
        await sending.until_complete()
        assert await run.wait() == 0


async def test_one_that_crashes_is_no_new_gateway(tmp_path: Path, domain: Domain, broker: Mosquitto) -> None:
    """Nor does it end the run, whatever the policy says of too many failures."""
    cause = tmp_path / "breaks"
    async with open_sending("in-process", tmp_path, domain, broker, {BREAKS: str(cause)}) as sending:
        cause.touch()
        sending.configure(f"broker = '{broker.url}'", "keepalive = 20")
        answer = await sending.reload()
        assert answer.code == 1
        assert "RuntimeError: broken on purpose; given up" in answer.lines[2]
        cause.unlink()
        assert (await sending.reload()).code == 0
        await sending.until_complete()
        assert await sending.run.wait() == 0


# A half alone


async def test_halves_alone(tmp_path: Path, domain: Domain, broker: Mosquitto) -> None:
    """Each in a session of its own, as a service has: else a terminal's SIGHUP ends it."""
    file = tmp_path / "taktora.toml"
    file.write_text(f"[connector]\nbroker = '{broker.url}'")
    program = ["-c", "import os, runpy; os.setsid(); runpy.run_module('taktora_trio', run_name='__main__')"]
    common = (f"{APPS}:deployment", "--domain", domain.name, "--config", str(file))
    async with (
        open_client(broker.port) as client,
        open_command("plugin", *common, program=program) as plugin,
        open_command("gateway", *common, program=program) as gateway,
    ):
        await plugin.until_printed("mqtt Up")
        plugin.signal(signal.SIGHUP)
        await plugin.until_event("sighup", "nothing is read again here")

        file.write_text(f"[connector]\nbroker = '{broker.url}'\nkeepalive = 20")
        gateway.signal(signal.SIGHUP)
        await gateway.until_event("reload-done", "changed: connector.keepalive; the new gateway is Up (mqtt)")
        async with open_mosquitto(tmp_path, anonymous=False) as refusing:
            file.write_text(f"[connector]\nbroker = '{refusing.url}'")
            code, _, errors = await run_command("reload", "--domain", domain.name)
            assert code == 1
            lines = errors.splitlines()
            assert lines[0] == "taktora-trio: changed: connector.broker, connector.keepalive"
            assert lines[1].startswith("taktora-trio: mqtt: Down (the broker refused the login")
        await plugin.until_event("health-up", count=3)
        file.write_text(f"[connector]\nbrokr = '{broker.url}'")
        code, output, errors = await run_command("reload", "--domain", domain.name)
        assert (code, output) == (2, "")
        assert f"{file}:2: connector.brokr: " in errors
        await client.publish_acknowledged("reload/stop", b"0")
        assert await plugin.wait() == 0
        assert gateway.process.returncode is None
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0


async def test_where_nobody_runs_it_says_so(domain: Domain) -> None:
    code, output, errors = await run_command("reload", "--domain", domain.name)
    assert (code, output) == (3, "")
    assert f"there is no run in domain {domain.name!r}" in errors
