"""The echo example, with a tap: each half writes down what it really receives from shared memory, byte by byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

from examples.echo import REPLY, REQUEST, deployment
from taktora_trio.transport.health import HealthReport, HealthReports
from taktora_trio.transport.subscriber import EnvelopeSubscriber

__all__ = ["REPLY", "REQUEST", "deployment", "read"]

TAP = "TAKTORA_TEST_TAP"  # names a folder
HEALTH = "health"


def _write_down(name: str, seen: bytes) -> None:
    with Path(os.environ[TAP], str(os.getpid())).open("a") as file:
        print(json.dumps([name, seen.hex()]), file=file)


if TAP in os.environ:
    _take, _decode = EnvelopeSubscriber.take, HealthReports._decode_report

    def _take_tapped(self: EnvelopeSubscriber) -> int | None:
        place = _take(self)
        if place is not None:
            _write_down(self.spec.name, bytes(self._memory[place : place + self.spec.envelope_size]))
        return place

    def _decode_tapped(self: HealthReports, content: bytes) -> HealthReport:
        _write_down(HEALTH, content)
        return _decode(self, content)

    vars_of = {EnvelopeSubscriber: ("take", _take_tapped), HealthReports: ("_decode_report", _decode_tapped)}
    for _cls, (_name, _function) in vars_of.items():
        setattr(_cls, _name, _function)


def read(folder: Path) -> dict[str, list[bytes]]:
    """Return what was received, by channel."""
    received: dict[str, list[bytes]] = {}
    for path in sorted(folder.iterdir()):
        for line in path.read_text().splitlines():
            name, seen = json.loads(line)
            received.setdefault(name, []).append(bytes.fromhex(seen))
    return received
