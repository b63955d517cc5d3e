"""A new run numbers its messages from 1 again, and the broker's session still has what the last one left half done."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
import trio
from trio_util import AsyncValue

from taktora_trio.transport.domain import Domain
from tests.brokers.packets import (
    CONNACK,
    CONNECT,
    PINGREQ,
    PINGRESP,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    Packet,
    packet,
    split,
)
from tests.command import MODES, open_command
from tests.deployment.numbering_apps import COUNT


class ToTheLetter:
    """One session, of a broker that takes for a repetition whatever has an identifier that waits for PUBREL.

    That is MQTT 3.1.1, section 4.3.3, to the letter; mosquitto looks whether the message is the same.
    """

    def __init__(self) -> None:
        self.half_done: dict[bytes, bytes] = {}
        self.delivered: list[bytes] = []
        self.changes = AsyncValue(0)
        self.answers = False
        self._is_known = False

    async def serve(self, stream: trio.SocketStream) -> None:
        rest = b""
        try:
            async for data in stream:
                found, rest = split(rest + data)
                for one in found:
                    await stream.send_all(self._answer(one))
                self.changes.value += 1
        except trio.BrokenResourceError:
            pass  # it was killed

    def _answer(self, asked: Packet) -> bytes:
        if asked.kind == CONNECT:
            known, self._is_known = self._is_known, True
            return packet(CONNACK, bytes([known, 0]))
        if asked.kind == SUBSCRIBE:
            return packet(SUBACK, asked.body[:2] + b"\1")
        if asked.kind == PINGREQ:
            return packet(PINGRESP, b"")
        if asked.kind == PUBLISH:
            message = asked.published()
            self.half_done.setdefault(message.packet_id, message.payload)
            return packet(PUBREC, message.packet_id) if self.answers else b""
        if asked.kind == PUBREL:
            if (payload := self.half_done.pop(asked.body[:2], None)) is not None:
                self.delivered.append(payload)
            return packet(PUBCOMP, asked.body[:2])
        return b""


@pytest.mark.parametrize("mode", MODES)
async def test_the_first_messages_after_everything_was_killed_arrive(mode: str, domain: Domain) -> None:
    broker = ToTheLetter()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, broker.serve, 0, host="127.0.0.1"))
        url = f"mqtt://127.0.0.1:{listener.socket.getsockname()[1]}"
        run = partial(
            open_command,
            *("run", "tests.deployment.numbering_apps:deployment", "--mode", mode, "--broker", url),
            *("--domain", domain.name),
        )
        async with run(env={"LIFE": "first"}) as first:
            with trio.fail_after(20):
                await broker.changes.wait_value(lambda _: len(broker.half_done) == 19)
            for process in first.tree():
                os.kill(process.pid, signal.SIGKILL)
            await first.wait()
        broker.answers = True
        async with run(env={"LIFE": "second"}) as second:
            with trio.fail_after(20):
                await broker.changes.wait_value(lambda _: b"second %d" % (COUNT - 1) in broker.delivered)
            second.signal(signal.SIGTERM)
            assert await second.wait() == 0
        nursery.cancel_scope.cancel()
    assert [each for each in broker.delivered if each.startswith(b"second")] == [b"second %d" % n for n in range(COUNT)]
    assert len(broker.delivered) == len(set(broker.delivered))
