"""The echo example, with a tap: each half writes down what it really receives from shared memory, byte by byte."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import iceoryx2 as iox2

from examples.echo import REPLY, REQUEST, deployment
from taktora_trio.transport import ports
from taktora_trio.transport.spec import ServiceSpec

__all__ = ["REPLY", "REQUEST", "deployment", "read"]

TAP = "TAKTORA_TEST_TAP"  # names a folder


class Tapped:
    """A subscriber of iceoryx2's."""

    def __init__(self, subscriber: iox2.Subscriber, spec: ServiceSpec) -> None:
        self.delete, self.has_samples = subscriber.delete, subscriber.has_samples
        self._subscriber = subscriber
        self._spec = spec

    def receive(self) -> iox2.Sample | None:
        sample = self._subscriber.receive()
        if sample is not None:
            seen = ctypes.string_at(sample.payload_ptr, self._spec.envelope_size)
            with Path(os.environ[TAP], str(os.getpid())).open("a") as file:
                print(json.dumps([self._spec.name, seen.hex()]), file=file)
        return sample


if TAP in os.environ:
    _open_subscriber = vars(ports)["open_subscriber"]

    async def _open_tapped(*arguments: object) -> Tapped:
        spec = arguments[1]
        assert isinstance(spec, ServiceSpec)
        return Tapped(await _open_subscriber(*arguments), spec)

    vars(ports)["open_subscriber"] = _open_tapped


def read(folder: Path) -> dict[str, list[bytes]]:
    """Return what was received, by service."""
    received: dict[str, list[bytes]] = {}
    for path in sorted(folder.iterdir()):
        for line in path.read_text().splitlines():
            name, seen = json.loads(line)
            received.setdefault(name, []).append(bytes.fromhex(seen))
    return received
