"""Text from the other side, made fit to be shown: a broker's, a peer's or a file's words must not forge a log line."""

from __future__ import annotations

__all__ = ["escaped"]

_LIMIT = 200  # characters of a text that is shown within a line


def escaped(text: str | bytes, limit: int = _LIMIT) -> str:
    """Return the text in one line, of at most `limit` characters, with what a terminal would obey as `\\x1b`.

    Whatever `str.isprintable` takes stays as it is; control characters, line separators, marks that change the
    direction of writing, and surrogates are written as in a Python literal. A text that is cut off ends with `...`.
    Bytes are taken for UTF-8, and one that is none becomes `\ufffd`.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in shown)
    return shown if len(text) <= limit else f"{shown}..."
