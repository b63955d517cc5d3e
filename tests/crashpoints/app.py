"""The deployment that is attacked: numbers both ways, and a journal of what was sent, said and heard.

The journal is a file, each line written at once: what a killed process has written is there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import msgspec
import trio

from taktora_trio import (
    Backoff,
    ChannelReader,
    ChannelWriter,
    ConnectorHost,
    Deployment,
    Inbound,
    MessageRefused,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    RestartPolicy,
    Store,
)
from tests.crashpoints.arming import arm
from tests.crashpoints.case import VARIABLE, Case, Orders

RATE = {"fast": 100.0, "slow": 40.0}
SLOW = 0.05  # seconds for each message
WINDOW = 200

orders = msgspec.json.decode(
    os.environ.get(VARIABLE, '{"case":{"victim":"gateway"},"folder":"","files":[]}'), type=Orders
)
case = orders.case
role = next((word for word in sys.argv[1:2] if word in ("plugin", "gateway")), "process")

OUT: dict[int, Outbound[bytes]] = {
    qos: Outbound(f"o{qos}", bytes, MqttRouting(f"crash/out/{qos}", qos=qos), window=WINDOW, max_payload=64)  # type: ignore[arg-type]
    for qos in case.qos
}
IN: dict[int, Inbound[bytes]] = {
    qos: Inbound(
        f"i{qos}",
        bytes,
        MqttRouting(f"crash/in/{qos}", qos=qos),  # type: ignore[arg-type]
        window=WINDOW,
        max_payload=64,
        max_deliveries=10**6,
    )
    for qos in case.qos
}


class _Journal:
    def __init__(self) -> None:
        self._fd = os.open(f"{orders.folder}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._fd, b"\n")  # where a life was killed within a line, the next one's does not go on in it

    def note(self, *words: object) -> None:
        line = f"{time.monotonic():.6f} {' '.join(map(str, words))}\n"
        os.write(self._fd, line.encode())


def _is_there(name: str) -> bool:
    return Path(orders.folder, name).exists()


async def _send(writer: ChannelWriter[bytes], qos: int, journal: _Journal, life: str) -> None:
    number, due = 0, trio.current_time()
    while not _is_there("over"):
        journal.note("sending", qos, life, number)
        await writer.send(b"%s:%d" % (life.encode(), number))
        journal.note("sent", qos, life, number)
        number += 1
        due = max(due + 1 / RATE[case.app], trio.current_time() - 1)
        await trio.sleep_until(due)


async def _receive_receipts(writer: ChannelWriter[bytes], qos: int, journal: _Journal, life: str, what: str) -> None:
    """A receipt for all that was sent so far, again and again: sequence numbers go on from those of an earlier life."""
    wait: Any = writer.wait_stored if what == "stored" else writer.wait_acknowledged
    while True:
        if count := writer.statistics().sent:
            try:
                await wait()
            except MessageRefused as exc:
                journal.note("refused", qos, life, str(exc).replace(" ", "_"))
            journal.note(what, qos, life, count - 1)
        await trio.sleep(0.02)


async def _hear(reader: ChannelReader[bytes], qos: int, journal: _Journal) -> None:
    async for received in reader:
        journal.note("heard", qos, received.value.decode(), int(received.redelivered))
        if case.app == "slow" and not _is_there("over"):
            await trio.sleep(SLOW)


async def _rearm() -> None:
    """A task that has raised ends no process, so somebody has to give the next life its order."""
    while True:
        await trio.sleep(0.05)
        if sys.gettrace() is None and _is_there("limit"):
            await trio.sleep(0.3)  # a gateway comes up
            arm(orders)


async def app(host: ConnectorHost) -> None:
    journal, life = _Journal(), f"{os.getpid()}"
    async with trio.open_nursery() as nursery:
        if case.victim == "task":
            nursery.start_soon(_rearm)
        for qos in case.qos:
            nursery.start_soon(_write, host, qos, journal, life)
            nursery.start_soon(_read, host, qos, journal)


async def _write(host: ConnectorHost, qos: int, journal: _Journal, life: str) -> None:
    async with host.open_writer(OUT[qos]) as writer, trio.open_nursery() as nursery:
        nursery.start_soon(_receive_receipts, writer, qos, journal, life, "acknowledged")
        if case.store != "none":
            nursery.start_soon(_receive_receipts, writer, qos, journal, life, "stored")
        await _send(writer, qos, journal, life)


async def _read(host: ConnectorHost, qos: int, journal: _Journal) -> None:
    async with host.open_reader(IN[qos]) as reader:
        await _hear(reader, qos, journal)


def _deployment(case: Case) -> Deployment:
    again = Backoff(initial=0.02, maximum=0.1)
    policy = RestartPolicy(backoff=Backoff(initial=0.01, maximum=0.02), intensity=10**6, start_timeout=20, stop_grace=3)
    options = MqttOptions(reconnect=again, protocol=case.protocol, session=case.session)
    store = None
    if case.store != "none":
        store = Store(path=Path(orders.folder, "store"), policy=case.store, behind_after=0.1)
    return Deployment(
        "crashing",
        app,
        [MqttConnector([*OUT.values(), *IN.values()], codec=RawCodec(), options=options)],
        gateway_policy=attrs.evolve(policy, restart="always"),
        plugin_policy=attrs.evolve(policy, restart="always"),
        store=store,
    )


deployment = _deployment(case)
if orders.folder and case.victim in ({role} if role != "process" else {"process", "task"}):
    arm(orders)
