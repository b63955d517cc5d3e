from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio import Metadata
from taktora_trio.channel import NO_CORRELATION_ID
from taktora_trio.mqtt.properties import from_properties, to_properties

said = st.builds(
    Metadata,
    content_type=st.sampled_from(["", "text/plain"]),
    correlation_data=st.binary(max_size=40) | st.binary(max_size=31).map(lambda data: data + b"\0"),
)


@given(st.none() | said)
def test_what_comes_in_goes_out_as_it_was(properties: Metadata | None) -> None:
    correlation_id, metadata = from_properties(properties)
    assert len(correlation_id) == 32
    assert (to_properties(correlation_id, metadata) or Metadata()) == (properties or Metadata())


@given(st.binary(max_size=32).map(lambda data: data.ljust(32, b"\0")), st.sampled_from([None, Metadata("text/plain")]))
def test_what_goes_out_comes_in_as_it_was(correlation_id: bytes, metadata: Metadata | None) -> None:
    assert from_properties(to_properties(correlation_id, metadata)) == (correlation_id, metadata)


def test_what_does_not_fit_stays_in_the_metadata() -> None:
    for data in (b"x" * 33, b"ends in zero\0", b"\0"):
        assert from_properties(Metadata(correlation_data=data)) == (NO_CORRELATION_ID, Metadata(correlation_data=data))
    assert from_properties(Metadata(correlation_data=b"x" * 32)) == (b"x" * 32, None)
    assert to_properties(NO_CORRELATION_ID, None) is None
