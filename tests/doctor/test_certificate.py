"""Certificates are read as OpenSSL reads them, and what is none is refused."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.connectors.examining.certificate import read_certificate

AUTHORITY = trustme.CA(organization_name="Ours\x1b", organization_unit_name="the authority")
BEGINS, ENDS = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2051, 6, 7, 8, 9, 10, tzinfo=UTC)
LEAF = AUTHORITY.issue_cert("a.example", "*.b.example", "10.0.0.7", "fe80::1", not_before=BEGINS, not_after=ENDS)
DER = ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode())


def test_what_it_says() -> None:
    certificate = read_certificate(DER)
    assert certificate.names == ("a.example", "*.b.example", "10.0.0.7", "fe80::1")
    assert (certificate.begins, certificate.ends) == (BEGINS, ENDS)  # the second is written in another form
    assert certificate.issuer == "the authority"


def test_one_without_names() -> None:
    certificate = read_certificate(ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode()))
    assert certificate.names == ()


@pytest.mark.parametrize("length", [0, 1, 3, 20, 100, -1])
def test_one_that_is_cut(length: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever comes first
        read_certificate(DER[:length])


@given(st.integers(0, len(DER) - 1), st.binary(min_size=1, max_size=4))
def test_one_that_is_damaged_says_something_or_is_refused(place: int, damage: bytes) -> None:
    try:
        certificate = read_certificate(DER[:place] + damage + DER[place + len(damage) :])
    except ValueError:
        return
    assert all(text.isprintable() for text in (certificate.issuer, *certificate.names))


@given(st.binary(max_size=300))
def test_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_certificate(data)
