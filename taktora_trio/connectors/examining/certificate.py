"""Reads what an operator wants to know of a certificate (RFC 5280), also of one that does not verify. Sans-I/O.

Python's `ssl` shows the content of verified certificates alone, and a doctor is asked about the others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from taktora_trio.escaping import escaped

__all__ = ["Certificate", "read_certificate"]

_SEQUENCE, _OCTETS, _OID, _UTC_TIME, _TIME = 0x30, 0x04, 0x06, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _ADDRESS = 0x82, 0x87
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"  # 2.5.29.17
_NAME_PARTS = (b"\x55\x04\x03", b"\x55\x04\x0b", b"\x55\x04\x0a")  # common name, unit, organization
_FIELDS = 6  # serial number, algorithm, issuer, validity, subject, key


class Certificate(msgspec.Struct, frozen=True):
    """A certificate. Texts are fit to be shown."""

    names: tuple[str, ...]
    """The host names and addresses that it is for."""
    issuer: str
    begins: datetime
    ends: datetime


def read_certificate(der: bytes) -> Certificate:
    """Return what a certificate in DER says. Raises `ValueError` for what is none."""
    ((_, whole),) = _elements(der)
    (_, signed), *_ = _elements(whole)
    fields = [(tag, content) for tag, content in _elements(signed) if tag != _VERSION]
    if len(fields) < _FIELDS:
        raise ValueError("no certificate")
    (_, issuer), (_, validity) = fields[2:4]
    begins, ends = (_time(tag, content) for tag, content in _elements(validity))
    names = tuple(name for tag, content in fields[_FIELDS:] if tag == _EXTENSIONS for name in _names(content))
    return Certificate(names, _common_name(issuer), begins, ends)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of one element after the other (X.690, section 8.1)."""
    position = 0
    while position < len(data):
        tag, length, start = data[position], *_length(data, position + 1)
        if start + length > len(data):
            raise ValueError("an element goes on behind the end")
        yield tag, data[start : start + length]
        position = start + length


def _length(data: bytes, position: int) -> tuple[int, int]:
    """Return a length, and where it ends."""
    first = data[position] if position < len(data) else 0x80
    if first < 0x80:
        return first, position + 1
    stop = position + 1 + (first & 0x7F)
    if not 1 <= first & 0x7F <= 4 or stop > len(data):
        raise ValueError("a length that can't be")
    return int.from_bytes(data[position + 1 : stop]), stop


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text  # section 4.1.2.5.1
    elif tag != _TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _common_name(name: bytes) -> str:
    parts: dict[bytes, str] = {}
    for _, group in _elements(name):
        for _, pair in _elements(group):
            (tag, kind), (_, value) = _elements(pair)
            if tag == _OID:
                parts.setdefault(kind, escaped(value))
    return next((parts[kind] for kind in _NAME_PARTS if kind in parts), "somebody without a name")


def _names(extensions: bytes) -> Iterator[str]:
    for _, several in _elements(extensions):
        for _, extension in _elements(several):
            (_, kind), *_, (tag, value) = _elements(extension)
            if kind == _ALTERNATIVE_NAMES and tag == _OCTETS:
                for _, names in _elements(value):
                    for tag, name in _elements(names):
                        if tag == _DNS_NAME:
                            yield escaped(name)
                        elif tag == _ADDRESS:
                            yield str(ipaddress.ip_address(name))
