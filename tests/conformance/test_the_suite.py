"""The suite finds what is wrong: a line connector that breaks a promise fails the test of that promise."""

from __future__ import annotations

import ast
import contextlib
import importlib
import math
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import examples.line_protocol
from examples.line_protocol import client
from examples.line_protocol.client import LineClient, LineConnection, LineMessage
from taktora_trio import ConnectFailed, ConnectionLost, ConnectRefused, Envelope, OnDone, StreamConnection
from taktora_trio.testing import conformance, driver
from taktora_trio.testing.conformance import ConnectorConformance
from tests.conformance.test_line_protocol import LineRig

Break = Callable[[pytest.MonkeyPatch], object]

publish, take, connect, log_in = LineConnection.publish, LineConnection._take, LineClient.connect, LineClient._log_in


def sends_late(self: LineConnection, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
    """Every tenth message comes behind the one after it."""
    late = vars(self).pop("late", None)
    if envelope.header.sequence_number % 10 == 0:
        vars(self)["late"] = (channel, envelope, on_done)
    else:
        publish(self, channel, envelope, on_done)
    if late:
        publish(self, *late)


def is_done_at_once(self: Any, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
    publish(self, channel, envelope, lambda number, refusal: None)
    on_done(envelope.header.sequence_number, "")


def is_done_twice(self: Any, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
    def twice(number: int, refusal: str) -> None:
        on_done(number, refusal)
        on_done(number, refusal)

    publish(self, channel, envelope, twice)


def acknowledges_at_once(self: LineConnection, line: bytes) -> None:
    if line.startswith(b"MSG"):
        self.acknowledge(LineMessage("", b"", number=line.split(b" ")[1]))
    take(self, line)


def hides_repeats(self: LineConnection, line: bytes) -> None:
    take(self, line.replace(b"AGAIN ", b"MSG ", 1))


def has_one_number(*given: Any, **more: Any) -> LineMessage:
    return LineMessage(*given, **{**more, "delivery_id": 7})


def writes_at_once(self: Any, data: bytes, *, is_answer: bool = False) -> None:
    os.write(self._stream.socket.fileno(), data)


async def refuses_for_now(self: LineClient, stream: trio.SocketStream) -> None:
    try:
        await log_in(self, stream)
    except ConnectRefused as exc:
        raise ConnectFailed(str(exc)) from exc


async def says_nothing(self: LineConnection) -> None: ...


@contextlib.asynccontextmanager
async def leaks(self: LineClient) -> AsyncIterator[LineConnection]:
    os.dup(0)
    async with connect(self) as connection:
        yield connection


@contextlib.asynccontextmanager
async def says_more_when_it_is_left(self: LineClient) -> AsyncIterator[LineConnection]:
    """Calls back late, as a library with threads does."""
    async with connect(self) as connection:
        yield connection

    async def call_back() -> None:
        self._on_message(LineMessage("topic of in", b"late"))

    trio.lowlevel.spawn_system_task(call_back)


def is_impatient(self: LineConnection) -> None:
    """Takes a peer that it does not read for a silent one."""
    self._is_paused, self._resumed = True, trio.Event()

    async def watch() -> None:
        await trio.sleep(self._silence)
        self._lose(ConnectionLost("silent", silent=True))

    trio.lowlevel.spawn_system_task(watch)


def attribute(owner: Any, name: str, value: Any) -> Break:
    return lambda patch: patch.setattr(owner, name, value)


def option(name: str, value: Any) -> Break:
    def patched(patch: pytest.MonkeyPatch) -> None:
        made = LineRig.connector
        patch.setattr(
            LineRig,
            "connector",
            lambda self, *channels: attrs.evolve(
                made(self, *channels), options=attrs.evolve(made(self, *channels).options, **{name: value})
            ),
        )

    return patched


@pytest.mark.parametrize(
    ("test", "break_it"),
    [
        ("done_once", attribute(LineConnection, "publish", sends_late)),
        ("done_once", attribute(LineConnection, "publish", is_done_twice)),
        ("comes_again", attribute(LineConnection, "publish", is_done_at_once)),
        ("farewell", attribute(LineConnection, "farewell", says_nothing)),
        ("any_bytes", attribute(client, "unquote_to_bytes", lambda word: word)),
        ("each_for_its_channel", attribute(LineClient, "channels_of", lambda self, topic: ["in"])),
        ("to_the_next_gateway", attribute(LineConnection, "acknowledge", lambda self, message: None)),
        ("to_the_next_gateway", attribute(LineConnection, "_take", acknowledges_at_once)),
        ("a_repeat_says_so", attribute(LineConnection, "_take", hides_repeats)),
        ("a_repeat_says_so", attribute(client, "LineMessage", has_one_number)),
        ("before_the_next_checkpoint", attribute(LineConnection, "send", writes_at_once)),
        ("to_the_next_run", attribute(LineConnection, "_take", acknowledges_at_once)),
        ("while_reading_is_paused", attribute(LineConnection, "pause_reading", lambda self: None)),
        ("after_the_block_is_left", attribute(LineClient, "connect", says_more_when_it_is_left)),
        ("silent_peer", option("silence", math.inf)),
        ("not_taken_for_a_silent", attribute(LineConnection, "pause_reading", is_impatient)),
        ("does_not_answer", option("connect_timeout", math.inf)),
        ("that_refuses", attribute(LineClient, "_log_in", refuses_for_now)),
        ("garbage_ends_a_connection", attribute(client, "escaped", lambda text: text.decode(errors="replace"))),
        ("cancelled_anywhere", attribute(LineClient, "connect", leaks)),
    ],
)  # fmt: skip
async def test_a_broken_promise_is_found(
    test: str, break_it: Break, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [name] = [name for name in dir(ConnectorConformance) if test in name]
    for module in (conformance, driver):
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    break_it(monkeypatch)
    async with LineRig.open(tmp_path) as rig:
        with pytest.raises((AssertionError, trio.TooSlowError, ConnectionLost, ConnectFailed)):
            await getattr(ConnectorConformance(), name)(rig)


def test_who_has_no_pytest_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_trio", None)
    monkeypatch.delitem(sys.modules, conformance.__name__)
    with pytest.raises(ImportError, match=r"needs pytest_trio: pip install 'taktora-trio\[testing\]'"):
        importlib.import_module(conformance.__name__)


def test_the_example_needs_public_names_alone() -> None:
    allowed = {"attrs", "trio", "taktora_trio", "examples", *sys.stdlib_module_names}
    for path in Path(examples.line_protocol.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert node.module.partition(".")[0] in allowed
                assert not node.module.startswith("taktora_trio."), f"{path.name} imports from {node.module}"
            elif isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed


@contextlib.asynccontextmanager
async def served_plainly(self: StreamConnection) -> AsyncIterator[None]:
    """Serve in a plain nursery, as an author would who has not thought of a stop."""
    async with trio.open_nursery() as nursery:
        for task in (self._read, self._write, self._watch):
            nursery.start_soon(self._run, task, trio.CancelScope())
        yield
        nursery.cancel_scope.cancel()


async def test_a_connection_need_not_think_of_a_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At a stop nothing is cancelled before all is published: a connector's tasks stand in a plain nursery."""
    monkeypatch.setattr(StreamConnection, "served", served_plainly)
    async with LineRig.open(tmp_path) as rig:
        await ConnectorConformance().test_a_stop_waits_for_the_last_answers(rig)
