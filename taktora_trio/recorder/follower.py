"""A follower: the decoded messages of a running deployment, for a third process.

    with open_follower(Domain("greenhouse"), ["readings"]) as follower:
        async for messages in follower.messages():
            for message in messages:
                print(message.channel, message.value)

It reads the halves' own memory (`transport/following.py`): they do nothing for it, whether somebody follows or not, and
never wait for it. One that is too slow loses messages, and counts them: `follower.lost`. How fast it looks depends on
how much comes: every millisecond at most, every 20 ms while nothing does.

Inbound and outbound messages are the same to it. It has those that are sent while it is there; a half that is restarted
meanwhile changes nothing. It ends with the run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
import trio

from taktora_trio import vitals
from taktora_trio.channels import Envelope
from taktora_trio.connectors.plan import channel_name
from taktora_trio.errors import CodecError, ConfigError, NoSuchDomain
from taktora_trio.escaping import escaped
from taktora_trio.recorder.decoding import Decode, decoder_by_name, decoder_of
from taktora_trio.runners.deployment import Deployment
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.following import FollowedChannel, FollowedTrunk
from taktora_trio.transport.outside import codec_of, look_at
from taktora_trio.transport.spec import Direction

__all__ = ["Channel", "Follower", "Message", "open_follower"]

_SOONEST, _LATEST = 0.001, 0.02  # seconds from one look to the next
_CHECK = 0.5  # seconds from one look whether the run still lives to the next


class Channel(msgspec.Struct, eq=False, kw_only=True):
    """A channel that is followed."""

    connector: str
    name: str
    direction: Direction
    address: str
    """Where its messages go, or come from; empty if no half has told it yet."""
    codec: str
    max_payload: int
    window: int
    followed: FollowedChannel
    decode: Decode

    @property
    def lost(self) -> int:
        """The number of messages that this process was too late for."""
        return self.followed.lost

    @property
    def unreadable(self) -> int:
        """The number of messages whose envelope can't be true."""
        return self.followed.unreadable

    def __str__(self) -> str:
        return f"{self.connector}.{self.name}"


class Message(msgspec.Struct, frozen=True):
    """A message that has passed by, in either direction."""

    channel: Channel
    envelope: Envelope
    """As it lies in shared memory."""
    value: Any
    """Plain: dictionaries, lists, texts, numbers, truth values and `None`; or bytes."""
    error: str = ""
    """Why the payload can't be decoded, if it can't; `value` has its bytes then."""


class Follower:
    """The messages of a running deployment, from now on. Use `open_follower`."""

    def __init__(self, domain: Domain, trunks: Sequence[FollowedTrunk], channels: Sequence[Channel]) -> None:
        self.domain = domain
        self.channels = channels
        """Those that are followed, by connector, in the order of the declarations."""
        self._trunks = trunks
        self._generation = domain.generation
        self._checked = time.monotonic()
        self._ended = False

    @property
    def lost(self) -> int:
        """The number of messages that this process was too late for, in all channels."""
        return sum(channel.lost for channel in self.channels)

    @property
    def has_ended(self) -> bool:
        """True if the run has ended, as far as was seen: it looks twice a second."""
        now = time.monotonic()
        if not self._ended and now >= self._checked + _CHECK:
            self._checked = now
            self._ended = self.domain.holder("owner") is None or self.domain.generation != self._generation
        return self._ended

    def take(self) -> list[Message]:
        """Return what has come since the last call, by channel; the rest of much comes with the next call."""
        found = [(channel, envelope) for channel in self.channels for envelope in channel.followed.take()]
        if len(self.channels) > 1:
            found.sort(key=lambda each: each[1].header.boottime_ns)
        return [_decoded(channel, envelope) for channel, envelope in found]

    async def messages(self) -> AsyncGenerator[list[Message], None]:
        """Yield what comes, until the run ends. Close it, by `contextlib.aclosing`, where you leave it early."""
        pause = _SOONEST
        while True:
            is_over = self.has_ended  # before the last look
            pressed = any(2 * channel.followed.waiting > channel.window for channel in self.channels)
            if messages := self.take():
                yield messages
            elif is_over:
                return
            # Short where half a window came meanwhile, so that it is not written over.
            pause = max(pause / 2, _SOONEST) if pressed else min(pause * 1.25, _LATEST)
            await trio.sleep(pause)


@contextlib.contextmanager
def open_follower(
    domain: Domain, channels: Sequence[str] = (), deployment: Deployment | None = None, *, recent: bool = False
) -> Iterator[Follower]:
    """Follow these channels of a running deployment, or all; each by its name, or as CONNECTOR.CHANNEL.

    A name that two connectors have, or both directions, stands for both. The deployment is needed only where a channel
    has a codec that is not this library's: without it the value of its messages is their payload. With `recent`, those
    come first that still lie in shared memory: up to a window of each channel.

    Raises `ConfigError` for a channel that there is not, and `NoSuchDomain` if nothing runs in the domain.
    """
    addresses = _addresses(domain)
    trunks: list[FollowedTrunk] = []
    try:
        prefix = domain.prefix
        trunks += [FollowedTrunk(onlooker, prefix, recent=recent) for onlooker in look_at(domain)]
        declared = _declared(deployment)
        there = [_channel(followed, declared, addresses) for trunk in trunks for followed in trunk.channels]
        yield Follower(domain, trunks, _chosen(there, channels, domain))
    finally:
        for trunk in trunks:
            trunk.close()


def _declared(deployment: Deployment | None) -> dict[str, Decode]:
    if deployment is None:
        return {}
    return {
        channel_name(connector, channel): decoder_of(connector, channel)
        for connector in deployment.connectors
        for channel in connector.channels
    }


def _addresses(domain: Domain) -> dict[str, str]:
    """Return the address of each channel, by its whole name, as far as a half has told it."""
    found = vitals.read(domain)
    if found.owner is None:
        raise NoSuchDomain(f"nothing runs in domain {domain.name!r}: a run that was killed has left its files there")
    return {f"taktora.connector.{one.connector}.{one.name}.{one.direction}": one.address for one in found.channels}


def _channel(followed: FollowedChannel, declared: dict[str, Decode], addresses: dict[str, str]) -> Channel:
    spec = followed.spec
    _, _, connector, name, _ = spec.name.split(".")
    codec = codec_of(spec)
    decode = declared.get(spec.name) or decoder_by_name(codec, spec.max_payload)
    return Channel(
        connector=connector,
        name=name,
        direction=spec.direction,
        address=addresses.get(spec.name, ""),
        codec=codec,
        max_payload=spec.max_payload,
        window=spec.window,
        followed=followed,
        decode=decode,
    )


def _chosen(there: Sequence[Channel], names: Sequence[str], domain: Domain) -> list[Channel]:
    """Return the channels of these names, or all. Raises `ConfigError` for a name that none has."""
    for name in names:
        if not any(name in (channel.name, str(channel)) for channel in there):
            known = sorted({channel.name for channel in there} | {str(channel) for channel in there})
            close = get_close_matches(name, known, 1)
            listed = ", ".join(dict.fromkeys(channel.name for channel in there))
            meant = f"did you mean {close[0]!r}?" if close else f"its channels are {listed or 'none'}"
            raise ConfigError(f"there is no channel {escaped(name)!r} in domain {domain.name!r}: {meant}")
    return [channel for channel in there if not names or channel.name in names or str(channel) in names]


def _decoded(channel: Channel, envelope: Envelope) -> Message:
    try:
        return Message(channel, envelope, channel.decode(envelope.payload))
    except CodecError as exc:
        return Message(channel, envelope, envelope.payload, str(exc))
