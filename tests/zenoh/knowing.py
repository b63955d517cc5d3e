"""Waiting until one node knows what another one has declared: before that, what it puts is not even sent."""

from __future__ import annotations

import uuid

from taktora_trio.connectors.connection import Connection
from taktora_trio.connectors.zenoh.connection import ZenohConnection
from taktora_trio.connectors.zenoh.session import Session
from tests.zenoh.hearing import Heard

__all__ = ["session_of", "until_known"]


async def until_known(asking: Session, answering: Session) -> None:
    """Wait until the one knows what the other has declared so far: it hears of that in order."""
    key, heard = f"known/{uuid.uuid4().hex}", Heard[bool]()
    await answering.answer(key, lambda question: None)
    await asking.watch_matching(key, heard)
    while not (await heard.next()):
        pass


def session_of(connection: Connection) -> Session:
    assert isinstance(connection, ZenohConnection)
    return connection._session
