"""The library's values as ours, and the other way."""

from __future__ import annotations

import zenoh
from msgspec.structs import replace

from taktora_trio.connectors.zenoh.configuring import one_line
from taktora_trio.connectors.zenoh.session import Sample

__all__ = [
    "CONGESTION_CONTROL",
    "ORIGIN",
    "PRIORITY",
    "RELIABILITY",
    "TARGET",
    "content",
    "encoding_of",
    "failure_of",
    "numbered_sample_of",
    "reason",
    "sample_of",
    "stamped_sample_of",
    "timestamp_of",
]

_BYTES = "zenoh/bytes"  # the default encoding

PRIORITY = {
    "real-time": zenoh.Priority.REAL_TIME,
    "interactive-high": zenoh.Priority.INTERACTIVE_HIGH,
    "interactive-low": zenoh.Priority.INTERACTIVE_LOW,
    "data-high": zenoh.Priority.DATA_HIGH,
    "data": zenoh.Priority.DATA,
    "data-low": zenoh.Priority.DATA_LOW,
    "background": zenoh.Priority.BACKGROUND,
}
CONGESTION_CONTROL = {"block": zenoh.CongestionControl.BLOCK, "drop": zenoh.CongestionControl.DROP}
RELIABILITY = {"reliable": zenoh.Reliability.RELIABLE, "best-effort": zenoh.Reliability.BEST_EFFORT}
ORIGIN = {False: zenoh.Locality.ANY, True: zenoh.Locality.REMOTE}
TARGET = {False: zenoh.QueryTarget.ALL, True: zenoh.QueryTarget.ALL_COMPLETE}


def reason(error: zenoh.ZError) -> str:
    """Return the error's text as one line, without the places in the library's source that end it."""
    return one_line(str(error))


def encoding_of(encoding: zenoh.Encoding | None) -> str:
    text = "" if encoding is None else str(encoding)
    return "" if text == _BYTES else text


def content(data: zenoh.ZBytes | None) -> bytes:
    """Return a copy: the library's own would keep a whole batch in memory."""
    return b"" if data is None else data.to_bytes()


def sample_of(sample: zenoh.Sample) -> Sample:
    return Sample(
        str(sample.key_expr),
        sample.payload.to_bytes(),
        encoding_of(sample.encoding),
        content(sample.attachment),
        sample.kind == zenoh.SampleKind.DELETE,
    )


def stamped_sample_of(sample: zenoh.Sample) -> Sample:
    """Return it with its timestamp, if it has one."""
    stamp = sample.timestamp
    return replace(sample_of(sample), timestamp="" if stamp is None else stamp.to_string_rfc3339_lossy())


def numbered_sample_of(sample: zenoh.Sample) -> Sample:
    """Return it with its timestamp, its publisher and its number, as far as it has them."""
    known, info = stamped_sample_of(sample), sample.source_info
    if info is None:
        return known
    source = info.source_id
    return replace(known, source=f"{source.zid}/{source.eid}", number=int(info.source_sn))


def failure_of(reply: zenoh.Reply) -> bytes | None:
    """Return what somebody says who can't answer; `None` if nobody says so.

    When the time is over the library, and each router on the way, fails the query, too. Nobody has answered then.
    """
    failure, who = reply.err, reply.replier_id
    if failure is None or who is None or not who.eid:  # not a session, but a node as such
        return None
    return failure.payload.to_bytes()


def timestamp_of(text: str) -> zenoh.Timestamp | None:
    return zenoh.Timestamp.parse_rfc3339(text) if text else None
