"""A server of lines, for trying it out: `python -m examples.line_protocol.server [PORT]`.

Each client has a mailbox, by its name. What is published on a topic goes into each mailbox that has the topic, and
stays there until the client says GOT. It is all in memory: a server that ends has forgotten it.
"""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from itertools import count
from urllib.parse import unquote_to_bytes

import attrs
import trio

from examples.line_protocol.client import words
from examples.line_protocol.connector import LONGEST

MOST = 10_000  # messages in a mailbox; a message that finds one full is refused


@attrs.define(eq=False)
class Mailbox:
    """The messages for one client that it has not said GOT to."""

    topics: set[bytes] = attrs.field(factory=set)
    waiting: dict[bytes, bytes] = attrs.field(factory=dict)
    """The rest of each message's line, by its number; in order."""
    sent: set[bytes] = attrs.field(factory=set)
    """The numbers of those that were sent before."""
    visitor: Visitor | None = None

    def send(self, number: bytes) -> None:
        """Send this message, if somebody is there to get it."""
        if self.visitor is not None and self.visitor.is_ready:
            self.visitor.out.send_nowait((b"AGAIN " if number in self.sent else b"MSG ") + self.waiting[number])
            self.sent.add(number)

    def remove(self, number: bytes) -> None:
        self.waiting.pop(number, None)
        self.sent.discard(number)


class Visitor:
    """One connection. What is to be sent waits in `lines`."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.out, self.lines = trio.open_memory_channel[bytes](math.inf)
        self.name = b""
        self.is_ready = False  # to get messages

    def say(self, *parts: bytes) -> None:
        self.out.send_nowait(words(*parts))


class Server:
    """All mailboxes. Serves each connection as a visitor of one."""

    def __init__(self) -> None:
        self.mailboxes: dict[bytes, Mailbox] = {}
        self.refusal = ""
        """Why nobody may come in; empty if everybody may."""
        self._numbers = count(time.time_ns())  # never used again, not even after a restart

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        async with stream, trio.open_nursery() as nursery:
            visitor = Visitor(nursery.cancel_scope)
            nursery.start_soon(self._write, stream, visitor)
            rest = b""
            try:
                async for chunk in stream:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if not self._take(visitor, [unquote_to_bytes(word) for word in line.split(b" ")]):
                            return
                    if len(rest) > LONGEST:
                        return
            except trio.BrokenResourceError:
                pass
            finally:
                mailbox = self.mailboxes.get(visitor.name)
                if mailbox is not None and mailbox.visitor is visitor:
                    mailbox.visitor = None
                nursery.cancel_scope.cancel()

    async def _write(self, stream: trio.SocketStream, visitor: Visitor) -> None:
        async for line in visitor.lines:
            try:
                await stream.send_all(line)
            except trio.BrokenResourceError:
                return

    def _take(self, visitor: Visitor, line: list[bytes]) -> bool:
        """Do what the line says. Returns False if the connection is to end."""
        match line:
            case [b"HELLO", name] if name and not visitor.name:
                self._greet(visitor, name)
            case [b"SUB", *topics] if visitor.name:
                self._deliver(visitor, topics)
            case [b"PUB", number, topic, payload] if visitor.name:
                visitor.say(*self._publish(number, topic, payload))
            case [b"GOT", number] if visitor.name:
                self.mailboxes[visitor.name].remove(number)
            case [b"PING"]:
                visitor.say(b"PONG")
            case _:  # BYE too
                return False
        return True

    def _greet(self, visitor: Visitor, name: bytes) -> None:
        if self.refusal:
            visitor.say(b"SORRY", self.refusal.encode())
            return
        visitor.name = name
        mailbox = self.mailboxes.setdefault(name, Mailbox())
        if mailbox.visitor is not None:
            mailbox.visitor.scope.cancel()  # an older connection of the same client
        mailbox.visitor = visitor
        visitor.say(b"WELCOME")

    def _deliver(self, visitor: Visitor, topics: list[bytes]) -> None:
        mailbox = self.mailboxes[visitor.name]
        mailbox.topics, visitor.is_ready = set(topics), True
        visitor.say(b"READY")
        for number in mailbox.waiting:
            mailbox.send(number)

    def _publish(self, number: bytes, topic: bytes, payload: bytes) -> tuple[bytes, ...]:
        wanting = [mailbox for mailbox in self.mailboxes.values() if topic in mailbox.topics]
        if any(len(mailbox.waiting) >= MOST for mailbox in wanting):
            return b"NAK", number, b"a mailbox is full"
        for mailbox in wanting:
            own = b"%d" % next(self._numbers)
            mailbox.waiting[own] = words(own, topic, payload)
            mailbox.send(own)
        return b"ACK", number


async def main(port: int = 7007) -> None:
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    print(f"a server of lines at 127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
    await trio.serve_listeners(Server().serve, listeners)


if __name__ == "__main__":
    trio.run(partial(main, *map(int, sys.argv[1:])))
