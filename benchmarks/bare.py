"""The hop of `one_hop.py` by bare iceoryx2 calls. The library's channels are measured against it.

What makes it fair: the same 100 bytes copied in and copied out, envelopes of the same size, the same buffer, the same
exact back-pressure (`DiscardData`, and the returned count checked), a notification with each message, and both ends
waiting as the library does, for the listener's socket under trio. What makes it bare: no header, no codec, no
channel objects, no closing, no checkpoint that isn't a wait.
"""

from __future__ import annotations

import ctypes
from typing import Any

import iceoryx2 as iox2
import trio

from benchmarks import message
from taktora_trio.transport.envelope import envelope_size
from taktora_trio.transport.listener_socket import socket_of

__all__ = ["Lane", "Receiver", "Sender"]

_SIZE = envelope_size(message.LENGTH, 0)


class _ENVELOPE(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * (_SIZE // 8))]

    @staticmethod
    def type_name() -> str:
        return f"taktora.ConnectorEnvelope.{_SIZE}"


class Lane:
    """The services of one direction, created by whoever comes first; each end opens its ports of them."""

    def __init__(self, node: iox2.Node, name: str, window: int) -> None:
        self._window = window
        self._data: Any = (
            node.service_builder(iox2.ServiceName.new(name))
            .publish_subscribe(_ENVELOPE)
            .max_publishers(1)
            .max_subscribers(1)
            .enable_safe_overflow(False)
            .history_size(0)
            .subscriber_max_buffer_size(window)
            .open_or_create()
        )
        self._sent, self._room = (
            node.service_builder(iox2.ServiceName.new(name + suffix)).event().open_or_create()
            for suffix in (".sent", ".room")
        )

    def open_sender(self) -> Sender:
        return Sender(self._data, self._sent, self._room)

    def open_receiver(self) -> Receiver:
        return Receiver(self._data, self._sent, self._room, self._window)


class Sender:
    """A publisher that notifies of each message, and a listener that is notified of room."""

    def __init__(self, data: Any, sent: Any, room: Any) -> None:
        publisher = data.publisher_builder().backpressure_strategy(iox2.BackpressureStrategy.DiscardData).create()
        self._loan = publisher.loan_uninit
        self._notify = sent.notifier_builder().create().notify
        listener = room.listener_builder().create()
        self._clear = listener.try_wait
        self._socket = socket_of(listener)
        self._kept = publisher, listener

    def offer(self, payload: bytes) -> bool:
        """Send a message. Return false if there was no room."""
        sample = self._loan()
        ctypes.memmove(sample.payload_ptr, payload, message.LENGTH)
        if not sample.assume_init().send():
            return False
        self._notify()
        return True

    async def send(self, payload: bytes) -> None:
        while not self.offer(payload):
            self._clear()
            if self.offer(payload):
                return
            await trio.lowlevel.wait_readable(self._socket)


class Receiver:
    """A subscriber, a listener that is notified of messages, and a notifier that tells of room twice per buffer."""

    def __init__(self, data: Any, sent: Any, room: Any, window: int) -> None:
        subscriber = data.subscriber_builder().buffer_size(window).create()
        self._take = subscriber.receive
        listener = sent.listener_builder().create()
        self._clear = listener.try_wait
        self._socket = socket_of(listener)
        self._tell_room = room.notifier_builder().create().notify
        self._batch, self._taken = window // 2, 0
        self._kept = subscriber, listener
        self._tell_room()  # a sender may be waiting for somebody to come

    def take(self) -> bytes | None:
        sample = self._take()
        if sample is None:
            return None
        payload = ctypes.string_at(sample.payload_ptr, message.LENGTH)
        sample.delete()
        self._taken += 1
        if self._taken >= self._batch:
            self._taken = 0
            self._tell_room()
        return payload

    async def receive(self) -> bytes:
        while (payload := self.take()) is None:
            self._clear()
            if (payload := self.take()) is not None:
                break
            await trio.lowlevel.wait_readable(self._socket)
        return payload
