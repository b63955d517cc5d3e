"""Finding: one thing that `taktora-trio doctor` has looked at, and what to do about it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

__all__ = ["Finding", "Status", "fail", "ok", "warn"]

Status: TypeAlias = Literal["ok", "warn", "fail"]


@attrs.frozen(kw_only=True)
class Finding:
    """What was found. Texts are for people, and hold nothing secret. What others have said is escaped in them."""

    check: str
    """What was looked at, in a word, such as `tls`."""
    status: Status
    """`fail` if a run can't work so, `warn` if it may not work, or not for long."""
    text: str
    remedy: str = ""
    """What to do about it; empty only if it is `ok`."""
    subject: str = ""
    """Whose it is, such as an address of the other side."""


def ok(check: str, text: str) -> Finding:
    return Finding(check=check, status="ok", text=text)


def warn(check: str, text: str, remedy: str) -> Finding:
    return Finding(check=check, status="warn", text=text, remedy=remedy)


def fail(check: str, text: str, remedy: str) -> Finding:
    return Finding(check=check, status="fail", text=text, remedy=remedy)
