"""Checks, matches and compares key expressions, as Zenoh does. Pure, so that an app's half has no Zenoh.

A key has chunks with `/` between them: `plant/7/temperature`. A key expression stands for many keys: `*` for one chunk,
`**` for any number of them, none included, and `$*` for any characters within a chunk. A chunk that begins with `@` is
verbatim: no wildcard stands for it.

Each set of keys is to be written in one way only, which is called canonical. Zenoh takes no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from taktora_trio.channels.templates import TemplateSyntax
from taktora_trio.errors import ConfigError

__all__ = ["TEMPLATES", "canonical", "check_expression", "check_key", "includes", "intersects", "is_pattern"]

LONGEST = 65_535  # bytes; a length has 16 bits on the wire

TEMPLATES = TemplateSyntax(
    topic="key",
    level="chunk",
    one="*",
    several="**",
    bad=re.compile(r"[/*#?$\ud800-\udfff]|\A@"),
    bad_first=re.compile(r"[/*#?$\ud800-\udfff]|\A@"),
    rule="at least one character, no '/', '*', '#', '?', '$', and does not begin with '@', for which no '*' stands",
)
_ANY = "**"
_WITHIN = "$*"
_TOKENS = re.compile(r"\$\*|.", re.DOTALL)
_RUN_WITHIN = re.compile(r"(\$\*)+")
_STRAY_STAR = re.compile(r"(?<!\$)\*+")
_STRAY_DOLLAR = re.compile(r"\$(?!\*)")
_SLASHES = re.compile("/{2,}")
_FORBIDDEN = re.compile("[#?]")


def check_expression(text: str, what: str = "key expression") -> None:
    """Raise `ConfigError` unless `text` is a key expression in canonical form. The error says the form, if any."""
    form = canonical(text, what)
    if form != text:
        raise ConfigError(f"{what} {text[:80]!r}: its canonical form is {form[:80]!r}: write that")


def check_key(text: str, what: str = "key") -> None:
    """Raise `ConfigError` unless `text` is a key, which has no wildcards."""
    check_expression(text, what)
    if "*" in text:
        raise ConfigError(f"{what} {text[:80]!r} has a wildcard: it must be one concrete key")


def is_pattern(expression: str) -> bool:
    return "*" in expression


def canonical(text: str, what: str = "key expression") -> str:
    """Return the only form in which Zenoh takes this key expression. Raises `ConfigError` for what is none."""
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{what} {text!r}: it must have at least one character")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{what} {text[:80]!r}: it has a surrogate, which has no UTF-8") from None
    if length > LONGEST:
        raise ConfigError(f"{what} {text[:40]!r}...: it has {length} bytes; Zenoh ends at {LONGEST}")
    if found := _FORBIDDEN.search(text):
        hint = "; any chunks are written '**'" if found[0] == "#" else ""
        raise ConfigError(f"{what} {text[:80]!r}: no key has a '{found[0]}'{hint}")
    if text[0] == "/" or text[-1] == "/" or "//" in text:
        whole = _SLASHES.sub("/", text).strip("/")
        raise ConfigError(
            f"{what} {text[:80]!r}: a chunk is empty: it must not begin or end with '/', nor have two in a row"
            + (f"; write {whole[:80]!r}" if whole else "")
        )
    return "/".join(_ordered([_canonical_chunk(chunk, text, what) for chunk in text.split("/")]))


def _canonical_chunk(chunk: str, text: str, what: str) -> str:
    if chunk in ("*", _ANY):
        return chunk
    if _STRAY_DOLLAR.search(chunk):
        raise ConfigError(f"{what} {text[:80]!r}: in {chunk[:40]!r} a '$' is not followed by '*': no key has a '$'")
    if _STRAY_STAR.search(chunk):
        instead = _STRAY_STAR.sub(_WITHIN, chunk)
        raise ConfigError(
            f"{what} {text[:80]!r}: in {chunk[:40]!r} a '*' is not the whole chunk: within one it is"
            f" written {_RUN_WITHIN.sub(_WITHIN, instead)[:40]!r}"
        )
    if _WITHIN not in chunk:
        return chunk
    chunk = _RUN_WITHIN.sub(lambda _: _WITHIN, chunk)
    return "*" if chunk == _WITHIN else chunk


def _ordered(chunks: list[str]) -> list[str]:
    """Return the chunks with each run of wildcards that has a `**` written as its `*`, and one `**` behind them."""
    if _ANY not in chunks:
        return chunks
    ordered: list[str] = []
    was_any = False
    for chunk in chunks:
        if chunk == _ANY:
            was_any = True
            continue
        if was_any and chunk != "*":
            ordered.append(_ANY)
            was_any = False
        ordered.append(chunk)
    return [*ordered, _ANY] if was_any else ordered


def intersects(one: str, other: str) -> bool:
    """Return true if some key matches both. Both are canonical."""
    if "*" not in one and "*" not in other:
        return one == other
    return _fit(one.split("/"), other.split("/"), _ANY, _chunks_meet, both=True)


def includes(wide: str, narrow: str) -> bool:
    """Return true if every key that matches `narrow` matches `wide`. Both are canonical.

    As in Zenoh, the answer may be no where the two are only written too differently: `*/**` does not include `**`.
    """
    if "*" not in wide:
        return wide == narrow
    return _fit(wide.split("/"), narrow.split("/"), _ANY, _chunk_includes, both=False)


def _fit(
    left: Sequence[str], right: Sequence[str], star: str, fit_one: Callable[[str, str], bool], *, both: bool
) -> bool:
    """Return true if both can be read to their ends together, where a `star` of the left reads any part of the right.

    With `both` a star of the right does likewise; without, only a star of the left reads one.
    """
    barrier = "@" if star == _ANY else None  # of what begins so nothing is read by a star
    seen = {(0, 0)}
    places = [(0, 0)]
    for i, j in places:
        one = left[i] if i < len(left) else ""
        other = right[j] if j < len(right) else ""
        next_places = []
        if one == star:
            next_places.append((i + 1, j))
            if other and other[0] != barrier:
                next_places.append((i, j + 1))
        if other == star and both:
            next_places.append((i, j + 1))
            if one and one[0] != barrier:
                next_places.append((i + 1, j))
        if one and other and star not in (one, other) and fit_one(one, other):
            next_places.append((i + 1, j + 1))
        for place in next_places:
            if place not in seen:
                seen.add(place)
                places.append(place)
    return (len(left), len(right)) in seen


def _chunks_meet(one: str, other: str) -> bool:
    if one == other:
        return True
    if "*" not in one + other or one[0] == "@" or other[0] == "@":
        return False
    if "*" in (one, other):
        return True
    return _fit(_TOKENS.findall(one), _TOKENS.findall(other), _WITHIN, str.__eq__, both=True)


def _chunk_includes(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    if "*" not in wide or wide[0] == "@" or narrow[0] == "@":
        return False
    if wide == "*":
        return True
    return narrow != "*" and _fit(_TOKENS.findall(wide), _TOKENS.findall(narrow), _WITHIN, str.__eq__, both=False)
