"""Generated inputs: hypothesis makes values of a channel's message type, that the channel carries.

    from taktora_trio.testing.strategies import values

    @given(reading=values(READINGS))
    async def test_no_reading_stops_the_heater(reading, open_app): ...

It needs hypothesis: `pip install taktora-trio[testing]`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.channels.codec import JsonCodec, PayloadCodec, RawCodec
from taktora_trio.channels.message_types import inspect_type
from taktora_trio.errors import CodecError, ConfigError, MessageError, missing_extra

try:
    from hypothesis import strategies as st
except ImportError as exc:
    raise missing_extra("taktora_trio.testing.strategies", "hypothesis", "testing") from exc

from taktora_trio.testing.generating import Generator

__all__ = ["values"]

T = TypeVar("T")


def values(channel: ChannelDescriptor[T], *, codec: PayloadCodec | None = None) -> st.SearchStrategy[T]:
    """Return a strategy for the values that a channel carries.

    Each has the types and keeps the constraints that its message type declares: `Meta` of msgspec, validators of attrs,
    `Literal`, enums. Each comes back from the codec as it was, fits `max_payload`, and makes a topic where the topic is
    made of it. `codec` is the connector's; the default is JSON, or the bytes as they are where the channel carries
    bytes. A class that refuses a value when it is made is tried with another one.

    Raises `ConfigError` for what is no channel, and for a message type that the codec does not take.
    """
    if not isinstance(channel, ChannelDescriptor):
        raise ConfigError(f"values() takes a channel, an Outbound or Inbound, not {channel!r}")
    kind: Any = channel.message_type
    if codec is None:
        codec = RawCodec() if kind is bytes else JsonCodec()
    elif not isinstance(codec, PayloadCodec):
        raise ConfigError(f"codec is {codec!r}; it must be a PayloadCodec, as JsonCodec()")
    encode, decode = codec.encoder(kind), codec.decoder(kind)
    topic_of = channel.routing.topic_of(kind)

    def is_carried(value: Any) -> bool:
        try:
            payload = encode(value)
            decode(payload)
            if topic_of is not None and len(topic_of(value).encode()) > channel.max_topic:
                return False
        except (CodecError, MessageError):
            return False
        return len(payload) <= channel.max_payload

    if kind is bytes:
        return st.binary(max_size=channel.max_payload).filter(is_carried)  # type: ignore[return-value]
    generator = Generator(codec, longest=channel.max_payload)
    return generator.of(inspect_type(kind)).filter(is_carried)
