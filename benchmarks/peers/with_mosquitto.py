"""mosquitto_pub reading lines, and mosquitto_sub printing them: the floor in C, though the lines go through pipes."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import IO

from benchmarks import message
from benchmarks.peers.control import (
    Came,
    Done,
    Flood,
    Hello,
    Inflow,
    Paced,
    Sent,
    Setting,
    Times,
    Trips,
    encode,
    orders,
    setting,
)
from benchmarks.peers.pace import pace_blocking

__all__: list[str] = []

_READY = b"ready\n"
_PATIENCE, _TRIES = 0.1, 100


def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    with (
        socket.socket(socket.AF_UNIX) as control,
        _publisher(told, told.topic(0), 0) as at_qos_0,
        _publisher(told, told.topic(1), 1) as at_qos_1,
        _publisher(told, told.paced_topic(0), 0) as paced_at_qos_0,
        _publisher(told, told.paced_topic(1), 1) as paced_at_qos_1,
        _publisher(told, told.ping, 1) as pings,
        _subscriber(told, [told.pong]) as asking,
        _subscriber(told, [told.inflow_filter(number) for number in range(told.filters)] or ["unused"]) as incoming,
    ):
        answers, received = _output(asking), 0
        _wait_until_answered(_input(pings), answers)
        control.connect(told.socket)
        publishers = (at_qos_0, at_qos_1, paced_at_qos_0, paced_at_qos_1)
        control.sendall(encode(Hello([process.pid for process in (*publishers, incoming)])))
        for order in orders(control):
            match order:
                case Flood(qos, first, count, length):
                    end = first + count - 1
                    lines = b"".join(
                        message.text(number, last=number == end, length=length) + b"\n"
                        for number in range(first, end + 1)
                    )
                    _input(at_qos_1 if qos else at_qos_0).write(lines)
                    control.sendall(encode(Done()))
                case Paced(qos) as order:
                    lines_to = _input(paced_at_qos_1 if qos else paced_at_qos_0)
                    sent = pace_blocking(order, lambda payload: lines_to.write(payload + b"\n"))  # noqa: B023
                    control.sendall(encode(Sent(sent)))
                case Inflow(count):
                    while received < count:
                        _output(incoming).readline()
                        received += 1
                    control.sendall(encode(Came(time.monotonic_ns())))
                case Trips(count, length):
                    times = []
                    for number in range(count):
                        payload = message.text(number, length=length)
                        start = time.perf_counter_ns()
                        _input(pings).write(payload + b"\n")
                        while (answer := answers.readline()) == _READY:
                            pass
                        times.append(time.perf_counter_ns() - start)
                        message.check_answer(answer.rstrip(b"\n"), payload)
                    control.sendall(encode(Times(times)))


def _wait_until_answered(pings: IO[bytes], answers: IO[bytes]) -> None:
    """Neither program tells when it is connected, so ask until the first answer comes."""
    for _ in range(_TRIES):
        pings.write(_READY)
        if select.select([answers], [], [], _PATIENCE)[0]:
            return
    raise RuntimeError("mosquitto_pub and mosquitto_sub did not connect")


@contextlib.contextmanager
def _publisher(told: Setting, topic: str, qos: int) -> Iterator[subprocess.Popen[bytes]]:
    command = ["mosquitto_pub", "--nodelay", "-h", "127.0.0.1", "-p", str(told.port), "-q", str(qos), "-t", topic, "-l"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as process:
        yield process  # it ends with its input


@contextlib.contextmanager
def _subscriber(told: Setting, filters: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    command = ["mosquitto_sub", "--nodelay", "-h", "127.0.0.1", "-p", str(told.port), "-q", "1"]
    command += [word for topic_filter in filters for word in ("-t", topic_filter)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


if __name__ == "__main__":
    run(setting())
