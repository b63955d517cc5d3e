"""paho's threaded loop (`loop_start`). Its publish does not wait; the last of an order is waited for."""

from __future__ import annotations

import os
import socket
import time
from queue import SimpleQueue
from threading import Event

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

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
from benchmarks.peers.inflow import Called
from benchmarks.peers.pace import pace_blocking

__all__: list[str] = []


def run(told: Setting) -> None:
    """Follow orders until there are no more."""
    answers, subscribed = SimpleQueue[bytes](), Event()
    client = Client(CallbackAPIVersion.VERSION2, told.name)
    client.max_inflight_messages_set(told.window)
    came = Event()
    inflow = Called(came.set)

    def take(client: Client, userdata: object, arrived: MQTTMessage) -> None:
        if arrived.topic == told.pong:
            answers.put(bytes(arrived.payload))
        else:
            inflow.take()

    client.on_message = take
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", told.port)
    connection = client.socket()
    assert isinstance(connection, socket.socket)
    # paho does not set it, and without it each acknowledgement would take 40 ms or more.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.loop_start()
    for topic_filter in (told.pong, *map(told.inflow_filter, range(told.filters))):
        subscribed.clear()
        client.subscribe(topic_filter, qos=1)
        subscribed.wait(10)
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(told.socket)
        control.sendall(encode(Hello([os.getpid()])))
        for order in orders(control):
            match order:
                case Flood(qos, first, count, length):
                    topic, end = told.topic(qos), first + count - 1
                    for number in range(first, end + 1):
                        info = client.publish(topic, message.text(number, last=number == end, length=length), qos)
                    info.wait_for_publish(60)
                    control.sendall(encode(Done()))
                case Paced(qos) as order:
                    topic = told.paced_topic(qos)
                    sent = pace_blocking(order, lambda payload: client.publish(topic, payload, qos))  # noqa: B023
                    control.sendall(encode(Sent(sent)))
                case Inflow(count):
                    came.clear()
                    inflow.expect(count)
                    came.wait(60)
                    control.sendall(encode(Came(inflow.at)))
                case Trips(count, length):
                    times = []
                    for number in range(count):
                        payload = message.text(number, length=length)
                        start = time.perf_counter_ns()
                        client.publish(told.ping, payload, 1)
                        answer = answers.get(timeout=10)
                        times.append(time.perf_counter_ns() - start)
                        message.check_answer(answer, payload)
                    control.sendall(encode(Times(times)))
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    run(setting())
