"""Dead letters, and messages that are acknowledged when they are stored, in real deployments."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from taktora_trio.cli import parse
from taktora_trio.store import open_log
from taktora_trio.transport.domain import Domain
from tests.client import open_client
from tests.command import open_run
from tests.deployment.dead_letter_apps import FOLDER, GIVEN, MENDED, POISON, QOS, READS
from tests.mosquitto import Mosquitto, open_mosquitto
from tests.patience import PATIENCE

APPS = "tests.deployment.dead_letter_apps"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the test, and below it what the deployment keeps."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path


def given(folder: Path) -> list[str]:
    path = folder / GIVEN
    return path.read_text().splitlines() if path.exists() else []


async def until(holds: Callable[[], bool], what: str) -> None:
    with trio.move_on_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - it is another process that does it
            await trio.sleep(0.01)
        return
    raise AssertionError(f"{what}: not within {PATIENCE} s")


def letters(domain: Domain, action: str, *arguments: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert parse(["dead-letters", action, "--domain", domain.name, *arguments])() == 0
    return output.getvalue()


async def test_a_message_that_kills_the_app_ends_in_the_dead_letters_and_what_is_behind_it_arrives(
    broker: Mosquitto, domain: Domain, folder: Path
) -> None:
    async with (
        open_client(broker.port, "letters/answers") as client,
        open_run(f"{APPS}:poisoned", "split", broker, domain) as run,
    ):
        await run.until_event("connected", connector="mqtt")
        for order in ("before", POISON, "behind", "last"):
            client.publish("letters/orders", json.dumps(order).encode())
        client.publish("letters/numbers", b"no number\xff")
        client.publish("letters/numbers", b"7")
        answers = [json.loads((await client.receive()).payload) for _ in range(3)]
        assert answers == ["before", "behind", "last"]
        assert given(folder).count(POISON) == 2, "max_deliveries"
        for channel in ("orders", "numbers"):
            await run.until_event("dead-letter", channel=channel)

        exported = [json.loads(line) for line in (letters(domain, "export")).splitlines()]
        by_channel = {letter["channel"]: letter for letter in exported}
        assert {channel: base64.b64decode(letter["payload"]) for channel, letter in by_channel.items()} == {
            "orders": b'"poison"',
            "numbers": b"no number\xff",
        }
        assert by_channel["orders"]["deliveries"] == 2
        assert "can't be decoded" in by_channel["numbers"]["reason"]

        (folder / MENDED).touch()
        letters(domain, "send", "--channel", "orders")
        assert json.loads((await client.receive()).payload) == POISON
        await run.until_event("dead-letter-sent", "1 dead letter")
        await run.until_event("dead-letter-done", "1 dead letter")
        assert POISON not in letters(domain, "list")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


@pytest.mark.chaos
async def test_what_is_acknowledged_when_stored_outlives_everything_and_even_the_broker(
    domain: Domain, folder: Path
) -> None:
    store = folder / "state" / "deployments" / domain.name / "inbound" / "mqtt"
    async with (
        open_mosquitto(folder) as broker,
        open_run(f"{APPS}:slow", "in-process", broker, domain) as run,
    ):
        await run.until_event("connected", connector="mqtt")
        async with open_client(broker.port) as client:
            for number in range(200):
                client.publish("letters/slow", b"%d" % number)
            await until(lambda: bool(given(folder)), "the first message")
            with trio.fail_after(PATIENCE):
                while await stored_in_a_copy(store, domain) < 200:  # noqa: ASYNC110 - a disk has no event
                    await trio.sleep(0.05)
        run.signal(signal.SIGKILL)
        await run.wait()
    assert given(folder) == ["0"]
    (folder / READS).touch()
    # A broker that has never heard of them: so all were acknowledged, or they would be lost now.
    (another := folder / "another").mkdir()
    async with (
        open_mosquitto(another) as broker,
        open_run(f"{APPS}:slow", "in-process", broker, domain) as run,
    ):
        await until(lambda: given(folder)[-1] == "199", "the last message")
        assert given(folder)[1:] == [str(number) for number in range(200)]
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def stored_in_a_copy(folder: Path, domain: Domain) -> int:
    copy = folder.with_name("copy")
    try:
        await trio.to_thread.run_sync(lambda: shutil.copytree(folder, copy))
        async with open_log(copy, identity=f"{domain.name}/mqtt", max_bytes=2**28) as log:
            return log.channel("slow").last
    except (OSError, shutil.Error):  # a file was removed just now
        return 0
    finally:
        await trio.to_thread.run_sync(lambda: shutil.rmtree(copy, ignore_errors=True))


@pytest.mark.chaos
@pytest.mark.parametrize("qos", [1, 2])
async def test_stored_messages_outlive_kills_of_either_half_and_most_come_once(
    qos: int, broker: Mosquitto, domain: Domain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(QOS, str(qos))
    count = 1500
    async with (
        open_client(broker.port) as client,
        open_run(f"{APPS}:working", "split", broker, domain) as run,
    ):
        await run.until_event("connected", connector="mqtt")
        for number in range(count):
            client.publish("letters/slow", b"%d" % number, qos)
        for kill, half in enumerate(("gateway", "gateway", "plugin", "gateway", "plugin"), 1):
            await until(lambda kill=kill: len(given(folder)) > 200 * kill, "enough messages")  # type: ignore[misc]
            run.signal(signal.SIGKILL, run.half(half))
            await run.until_event("process-started", half=half)
        await until(lambda: given(folder)[-1] == str(count - 1), "the last message")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    arrived = [int(number) for number in given(folder)]
    assert list(dict.fromkeys(arrived)) == list(range(count)), "in order, and none is missing"
    assert len(arrived) - count < count / 10, "hardly more than what a killed app had in hand"


@pytest.mark.chaos
@pytest.mark.parametrize("app", ["poisoned", "poisoned_store"])
async def test_a_message_that_kills_everything_is_counted_over_the_runs(
    app: str, broker: Mosquitto, domain: Domain, folder: Path
) -> None:
    async with open_client(broker.port, "letters/answers") as client:
        for attempt in (1, 2):
            async with open_run(f"{APPS}:{app}", "in-process", broker, domain) as run:
                if attempt == 1:
                    await run.until_event("connected", connector="mqtt")
                    for order in ("before", POISON, "behind"):
                        client.publish("letters/orders", json.dumps(order).encode())
                assert await run.wait() == -signal.SIGKILL
        async with open_run(f"{APPS}:{app}", "in-process", broker, domain) as run:
            answers = []
            while "behind" not in answers:
                answers.append(json.loads((await client.receive()).payload))
            await run.until_event("dead-letter")
            run.signal(signal.SIGTERM)
            assert await run.wait() == 0
    assert given(folder).count(POISON) == 2
    [exported] = letters(domain, "export").splitlines()
    letter = json.loads(exported)
    assert (letter["deliveries"], letter["topic"]) == (2, "letters/orders")
