"""A thousand sessions at one broker: what each costs here and there, and how soon all are back, against the simulation.

    python -m benchmarks.sessions [--sessions 1000] [--processes 2] [--idle 20] [--deployments 10] [--tls]

The sessions are MQTT clients as a gateway has them, with a subscription, a last will and a presence, and they connect
again as the bridge has them do; but many share a process, and there is no shared memory. Beside them some whole
deployments are measured in the split shape. The prediction is that of `fleet.py`, with the rate at which the same
processes and the same broker came up at first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import attrs
import psutil
import trio

from benchmarks import wire
from benchmarks.children import open_python
from benchmarks.fleet import OURS, Cluster, simulate
from benchmarks.report import grid, machine
from taktora_trio import Inbound, MqttOptions, MqttRouting
from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.mqtt.client import MqttClient
from taktora_trio.connectors.reconnect import History, after
from taktora_trio.errors import ConnectorError, leaves
from taktora_trio.processes.lines import read_lines
from taktora_trio.testing.mqtt.mosquitto import Mosquitto, open_mosquitto

__all__ = ["main"]

_TOPIC = "sessions/"
_WAITING, _LENGTH = 20, 100  # messages for each session while it is away, and their bytes
_TIMEOUT = 120.0
_SETTLE = 1.0
_LIFETIME = 600  # seconds after which what was started ends by itself, should this process be killed
_UP = b"-> Up"


# In a child: many sessions


@attrs.define
class _Sessions:
    """The sessions of one process; a line is printed whenever all are up, with the time of each."""

    count: int
    up: dict[int, float] = attrs.field(factory=dict)

    async def serve(self, number: int, options: MqttOptions) -> None:
        """Serve: connect again and again, as the bridge does."""
        channel = Inbound("in", bytes, MqttRouting(f"{_TOPIC}{options.client_id}", qos=1))
        client = MqttClient("mqtt", [channel], options, {}, _drop, lambda name, size: memoryview(bytearray(size)))
        history = History()
        while True:
            since: float | None = None
            failure: BaseException | None = None
            try:
                async with client.connect() as connection:
                    await connection.start()
                    since = trio.current_time()
                    self.up[number] = time.monotonic()
                    if len(self.up) == self.count:
                        print(json.dumps(sorted(self.up.values())), flush=True)
                    failure = await connection.wait_until_lost()
            except* ConnectorError as group:
                failure = leaves(group)[0]
            self.up.pop(number, None)
            assert isinstance(failure, Exception)
            uptime = None if since is None else trio.current_time() - since
            history, retry = after(history, failure, uptime, options.reconnect, client.hint)
            client.ended(failure)
            await trio.sleep(client.next_attempt(retry).delay)


def _drop(message: Incoming) -> None:
    """Take it, and acknowledge nothing."""


async def _serve(url: str, ca_file: str, first: int, count: int) -> None:
    sessions = _Sessions(count)
    warm_up = MqttOptions(broker=url, client_id=f"warm-up-{first}", ca_file=ca_file or None)
    async with trio.open_nursery() as nursery:  # what is imported at the first connection is not to count
        nursery.start_soon(_Sessions(2).serve, 0, warm_up)
        await trio.sleep(_SETTLE)
        nursery.cancel_scope.cancel()
    print("ready", flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    async with trio.open_nursery() as nursery:
        for number in range(first, first + count):
            options = MqttOptions(broker=url, client_id=f"session-{number}", persistent=True, ca_file=ca_file or None)
            nursery.start_soon(sessions.serve, number, options)


# In the parent


@attrs.define
class _Process:
    """A child, and what it says."""

    process: trio.Process
    lines: AsyncIterator[bytes]

    async def all_up(self) -> list[float]:
        times: list[float] = json.loads(await anext(self.lines))
        return times


def _resident(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss


def _proportional(pid: int) -> float:
    share: int = psutil.Process(pid).memory_full_info().pss
    return share


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@contextlib.asynccontextmanager
async def _open_children(url: str, ca_file: str, count: int, processes: int) -> AsyncIterator[list[_Process]]:
    """Start them. What a gateway notes on its disk goes to memory: a thousand would be a thousand disks."""
    async with contextlib.AsyncExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        children = []
        for index in range(processes):
            arguments = [url, ca_file, str(index * (count // processes)), str(count // processes)]
            process = await stack.enter_async_context(
                open_python(
                    *("benchmarks.sessions", "--child", *arguments),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "XDG_STATE_HOME": state},
                )
            )
            assert process.stdout is not None
            lines = await stack.enter_async_context(contextlib.aclosing(read_lines(process.stdout)))
            children.append(_Process(process, lines))
        for child in children:
            assert await anext(child.lines) == b"ready"
        yield children


@contextlib.contextmanager
def _certificate(folder: Path, tls: bool) -> Iterator[tuple[list[str], str]]:
    """Yield the lines of a listener with TLS, and the file of the authority; nothing without TLS."""
    if not tls:
        yield [], ""
        return
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    yield [f"certfile {folder}/cert.pem", f"keyfile {folder}/key.pem"], f"{folder}/ca.pem"


async def _measure(count: int, processes: int, idle: float, tls: bool) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as name, _certificate(Path(name), tls) as (lines, ca_file):
        keeping = ["persistence true", f"persistence_location {name}/", "autosave_interval 0"]
        async with open_mosquitto(Path(name), [*lines, *keeping]) as broker:
            url = f"{'mqtts' if tls else 'mqtt'}://127.0.0.1:{broker.port}"
            async with _open_children(url, ca_file, count, processes) as children:
                rows += await _measure_children(children, broker, count, idle)
            await trio.sleep(_SETTLE)
            if not tls:
                rows += await _measure_waiting(broker, count)
    return rows


async def _measure_children(
    children: Sequence[_Process], broker: Mosquitto, count: int, idle: float
) -> list[tuple[str, str, str]]:
    pids = [child.process.pid for child in children]
    before, at_broker = sum(map(_resident, pids)), _resident(broker.pid)
    cpu, cpu_broker = sum(map(_cpu, pids)), _cpu(broker.pid)
    began = time.monotonic()
    with trio.fail_after(_TIMEOUT):
        for child in children:
            assert child.process.stdin is not None
            await child.process.stdin.send_all(b"go\n")
        up = sorted([at - began for child in children for at in await child.all_up()])
    rate = count / up[-1]
    logins, logins_broker = (sum(map(_cpu, pids)) - cpu) / count, (_cpu(broker.pid) - cpu_broker) / count
    await trio.sleep(_SETTLE)
    rows = [
        ("memory of a session, ours", f"{(sum(map(_resident, pids)) - before) / count / 1e3:.1f} kB", "resident"),
        ("memory of a session, broker", f"{(_resident(broker.pid) - at_broker) / count / 1e3:.1f} kB", "with presence"),
        ("CPU of a login, ours", f"{logins * 1e3:.2f} ms", "TCP, CONNECT, SUBSCRIBE, presence"),
        ("CPU of a login, broker", f"{logins_broker * 1e3:.3f} ms", f"so {1 / logins_broker:,.0f} logins/s of a core"),
        ("all connected at first", f"{up[-1]:.2f} s", f"{rate:,.0f} logins/s, this machine does both sides"),
    ]
    if idle:
        cpu, cpu_broker = sum(map(_cpu, pids)), _cpu(broker.pid)
        await trio.sleep(idle)
        ours, theirs = (sum(map(_cpu, pids)) - cpu) / idle / count, (_cpu(broker.pid) - cpu_broker) / idle / count
        keepalive = MqttOptions().keepalive
        rows += [
            ("CPU of an idle session, ours", f"{ours * 1e6:.1f} us/s", f"a PINGREQ each {keepalive / 2:g} s"),
            (
                "CPU of an idle session, broker",
                f"{theirs * 1e6:.1f} us/s",
                f"{theirs * 1e5:.2f} % of a core for 1,000",
            ),
        ]
    lost = time.monotonic()
    await broker.stop(signal.SIGTERM)
    await broker.start()
    back = time.monotonic()
    with trio.fail_after(_TIMEOUT):
        up = sorted([at - back for child in children for at in await child.all_up()])
    outage = back - lost
    forecast = simulate(count, Cluster(1, rate, float("inf"), outage), OURS, 1)
    for share in (0.5, 0.99, 1.0):
        measured, predicted = up[int(share * count) - 1], forecast.until(share)
        what = f"{100 * share:g} % back after a restart of {outage:.2f} s"
        rows.append((what, f"{measured:.2f} s", f"simulated {predicted:.2f} s"))
    return rows


async def _measure_waiting(broker: Mosquitto, count: int) -> list[tuple[str, str, str]]:
    """Publish for sessions that are away."""
    before = _resident(broker.pid)

    def publish() -> None:
        with wire.connect(broker.port, "publisher") as connection:
            packets, done, total = wire.Packets(), 0, count * _WAITING
            for turn in range(_WAITING):
                for number in range(count):
                    packet_id = (turn * count + number) % 60_000 + 1
                    connection.sendall(wire.publish(f"{_TOPIC}session-{number}", bytes(_LENGTH), packet_id))
            while done < total and packets.read(connection):
                done += sum(first == wire.PUBACK for first, _ in packets)

    with trio.fail_after(_TIMEOUT):
        await trio.to_thread.run_sync(publish)
    each = (_resident(broker.pid) - before) / count / _WAITING
    return [(f"memory of a waiting message, broker, {_LENGTH} B", f"{each:.0f} B", f"{_WAITING} for each session")]


async def _measure_deployments(count: int) -> list[tuple[str, str, str]]:
    """Start whole deployments, each with three processes, and read what they take."""
    with tempfile.TemporaryDirectory() as name:
        async with open_mosquitto(Path(name)) as broker, contextlib.AsyncExitStack() as stack:
            at_broker = _resident(broker.pid)
            began, pids = time.monotonic(), list[int]()
            for number in range(count):
                where = ["--broker", broker.url, "--domain", f"sessions-{os.getpid()}-{number}"]
                command = ["taktora_trio", "run", "examples.echo:deployment", "--mode", "split", *where]
                command += ["--for", f"{_LIFETIME}"]
                env = {**os.environ, "XDG_STATE_HOME": name}
                process = await stack.enter_async_context(open_python(*command, stderr=subprocess.PIPE, env=env))
                pids.append(process.pid)
                assert process.stderr is not None
                with trio.fail_after(_TIMEOUT):
                    async with contextlib.aclosing(read_lines(process.stderr)) as lines:
                        async for line in lines:
                            if _UP in line:
                                break
            seconds = time.monotonic() - began
            await trio.sleep(_SETTLE)
            family = [child.pid for pid in pids for child in psutil.Process(pid).children()]
            share = sum(map(_proportional, [*pids, *family])) / count
            cpu = sum(map(_cpu, [*pids, *family]))
            await trio.sleep(5)
            spent = (sum(map(_cpu, [*pids, *family])) - cpu) / 5 / count
            return [
                (f"memory of a deployment, of {count}", f"{share / 1e6:.1f} MB", "PSS of its three processes"),
                (
                    "CPU of an idle deployment",
                    f"{spent * 1e3:.2f} ms/s",
                    f"started one by one in {seconds / count:.2f} s",
                ),
                ("memory of its session, broker", f"{(_resident(broker.pid) - at_broker) / count / 1e3:.1f} kB", ""),
            ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2, help="that the sessions share")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of looking at idle ones")
    parser.add_argument("--deployments", type=int, default=10, help="whole ones, beside; 0 for none")
    parser.add_argument("--tls", action="store_true", help="measure the sessions with TLS (ECDSA P-256) too")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    told = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * told.sessions + 1024), hard))
    if told.child:
        signal.alarm(_LIFETIME)
        url, ca_file, first, count = told.child
        trio.run(_serve, url, ca_file, int(first), int(count))
        return
    print(machine())
    rows: list[tuple[str, str, str]] = [(f"{told.sessions:,} sessions, in {told.processes} processes", "measured", "")]
    rows += trio.run(_measure, told.sessions, told.processes, told.idle, False)
    if told.tls:
        secured = trio.run(_measure, told.sessions, told.processes, 0.0, True)
        rows += [(f"TLS: {what}", measured, more) for what, measured, more in secured]
    if told.deployments:
        rows += trio.run(_measure_deployments, told.deployments)
    print(grid(rows))


if __name__ == "__main__":
    main()
