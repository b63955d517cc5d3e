"""What others keep of the keys of latched inbound channels: asked for when somebody comes who may have it.

It comes as the retained messages of a broker do: to a channel that subscribes, once, and after a new connection only
what has changed meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial

import trio

from taktora_trio.connectors.zenoh.keytree import KeyTree, minimal_expressions
from taktora_trio.connectors.zenoh.lasting.latched import TOKENS
from taktora_trio.connectors.zenoh.session import OnSample, Quality, Sample, Session

__all__ = ["KeptByOthers"]

_REMEMBERED = 10_000  # keys whose last value is known
_PATIENCE = 1.0  # seconds until others are asked while somebody does not answer
_USUAL = Quality()


class KeptByOthers:
    """It lives as long as the gateway, and so knows after a new connection what is no news."""

    def __init__(self, expressions: Iterable[str], timeout: float) -> None:
        """`expressions` are those of the channels; who does not answer within the `timeout` tells nothing."""
        self._expressions = minimal_expressions(expressions)
        self._tree = KeyTree((expression, None) for expression in self._expressions)
        self._timeout = timeout
        self._known: OrderedDict[str, tuple[str, int]] = OrderedDict()  # a key's last timestamp, and digest
        self._due: set[str] = set()
        self._is_due = trio.Event()

    async def start(self, session: Session) -> None:
        """Look out for whoever has values. Raises `ConnectionLost`."""
        for expression in self._expressions:
            await session.watch_tokens(f"{expression}/{TOKENS}/*", partial(self._somebody, expression))
            self._ask_soon(expression)  # storages and plain queryables have no token

    async def serve(self, session: Session, on_kept: OnSample) -> None:
        """Ask for what is kept, and call `on_kept` with what is news. Runs until it is cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due = trio.Event()
            due, self._due = self._due, set()
            for expression in due:
                with trio.move_on_after(_PATIENCE):
                    await self._ask(session, expression, on_kept)

    def takes(self, sample: Sample) -> bool:
        """Return whether a sample that was put now is news, and remember it. Samples of other keys are."""
        key = sample.key
        if not self._tree.match(key):
            return True
        if sample.is_delete:
            self._known.pop(key, None)
            return True
        known, stamp = self._known.get(key), sample.timestamp
        if known is not None and _writer(stamp) and _writer(stamp) == _writer(known[0]) and stamp <= known[0]:
            return False  # the answer to a question has overtaken it
        self._remember(sample)
        return True

    def _somebody(self, expression: str, token: Sample) -> None:
        if not token.is_delete:
            self._ask_soon(expression)

    def _ask_soon(self, expression: str) -> None:
        self._due.add(expression)
        self._is_due.set()

    async def _ask(self, session: Session, expression: str, on_kept: OnSample) -> None:
        """Ask all, and wait until they have answered."""
        ended = trio.Event()

        def on_reply(reply: Sample) -> None:
            if not reply.is_delete and self._is_newer(reply):
                on_kept(reply)

        session.ask(expression, b"", _USUAL, "", b"", self._timeout, on_reply, lambda failure: None, ended.set)
        await ended.wait()

    def _is_newer(self, reply: Sample) -> bool:
        known = self._known.get(reply.key)
        if known is not None:
            stamp, digest = known
            if (reply.timestamp <= stamp) if stamp and reply.timestamp else (digest == _digest(reply)):
                return False
        self._remember(reply)
        return True

    def _remember(self, sample: Sample) -> None:
        self._known[sample.key] = sample.timestamp, _digest(sample)
        self._known.move_to_end(sample.key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _digest(sample: Sample) -> int:
    return hash((sample.payload, sample.encoding))


def _writer(stamp: str) -> str:
    return stamp.partition("/")[2]
