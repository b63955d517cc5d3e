"""Which messages of one schema are none of another one.

A reader takes what its schema allows, and ignores fields that this does not name unless it excludes them. So a change
of a schema breaks somebody if what is written by one of the two is not taken by the other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from taktora_trio.declare.references import mapping, resolved
from taktora_trio.errors import ConfigError

__all__ = ["Refusal", "refusals"]

Kind: TypeAlias = Literal["is missing", "may be missing", "unknown", "excluded", "values", "type", "limit"]

_LOWEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_HIGHEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("contentEncoding", "format", "multipleOf", "pattern", "uniqueItems")
_MOST = 200_000  # schemas that are looked at
_DEEPEST = 100
_REFERENCE = "$ref"
_TYPES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
    (type(None), "null"),
)


class Refusal(msgspec.Struct, frozen=True):
    """Something that is written and not taken."""

    at: str
    """The path of a field; empty for the message itself."""
    kind: Kind
    """`is missing`, `may be missing`: a field that the reader needs, and that is never or not always written.
    `unknown`: a field that the reader does not know, and ignores. `excluded`: one that it refuses. `values`: values
    that it does not know. `type`, `limit`: others are written than it takes."""
    written: str = ""
    taken: str = ""


def refusals(written: Any, source: dict[str, Any], taken: Any, target: dict[str, Any]) -> list[Refusal]:
    """Return what is written by the schema `written` of the document `source`, and not taken by the other one.

    Raises `ConfigError` for a document with bad references, or one too large.
    """
    return [*_Comparison(source, target).refusals(written, taken, "", 0)]


class _Comparison:
    def __init__(self, source: dict[str, Any], target: dict[str, Any]) -> None:
        self._source, self._target = source, target
        self._under_way: set[tuple[str | None, str | None]] = set()
        self._count = 0

    def refusals(self, written: Any, taken: Any, at: str, depth: int) -> Iterator[Refusal]:
        """Each of the choices that are written must be taken by one of those that are taken."""
        depth += 1
        taken_choices = [*self._choices(self._target, taken, depth)]
        for choice in self._choices(self._source, written, depth):
            of_its_type = [other for other in taken_choices if _takes_type(choice, other)]
            named_alike = [other for other in of_its_type if _is_named_alike(choice, other)]
            found = [[*self._of_one(choice, other, at, depth)] for other in named_alike or of_its_type]
            if found:
                yield from min(found, key=lambda them: (_weight(them), len(them)))
            else:
                yield Refusal(at, "type", self._shown(self._source, written), self._shown(self._target, taken))
                return

    def _choices(self, document: dict[str, Any], schema: Any, depth: int) -> Iterator[dict[str, Any]]:
        """Yield the schemas, each of one type, of which a message fits one."""
        if schema is False:
            return
        whole = self._merged(document, schema, depth)
        for key in ("anyOf", "oneOf"):
            if isinstance(whole.get(key), list):
                for choice in whole[key]:
                    yield from self._choices(document, choice, depth + 1)
                return
        if "const" in whole:
            whole = {**whole, "enum": [whole["const"]]}
        types = whole.get("type")
        if types is None and isinstance(whole.get("enum"), list):
            types = list(dict.fromkeys(map(_type_of, whole["enum"])))
        for name in types if isinstance(types, list) else [types]:
            one = {**whole, "type": name, _REFERENCE: _reference(schema)}
            if isinstance(values := whole.get("enum"), list):
                one["enum"] = [value for value in values if name is None or _fits(_type_of(value), name)]
            yield one

    def _merged(self, document: dict[str, Any], schema: Any, depth: int) -> dict[str, Any]:
        """Return a schema without references and `allOf` at its top. Raises `ConfigError` where it has no end."""
        self._count += 1
        if self._count > _MOST or depth > _DEEPEST:
            raise ConfigError("the schemas of the documents are too large to be compared")
        whole = mapping(resolved(document, schema))
        if isinstance(parts := whole.get("allOf"), list):
            for part in parts:
                other = self._merged(document, part, depth + 1)
                fields = {**mapping(other.get("properties")), **mapping(whole.get("properties"))}
                required = [*_names(other.get("required")), *_names(whole.get("required"))]
                whole = {**other, **whole, "properties": fields, "required": required}
            whole.pop("allOf", None)
        return whole

    def _of_one(self, written: dict[str, Any], taken: dict[str, Any], at: str, depth: int) -> Iterator[Refusal]:
        """Compare two schemas of one type."""
        pair = (written[_REFERENCE], taken[_REFERENCE])
        if pair in self._under_way:
            return  # a type that contains itself: its fields are being compared
        if None not in pair:
            self._under_way.add(pair)
        try:
            yield from _of_values(written, taken, at)
            yield from _of_limits(written, taken, at)
            yield from self._of_fields(written, taken, at, depth)
            yield from self._of_items(written, taken, at, depth)
        finally:
            self._under_way.discard(pair)

    def _of_fields(self, written: dict[str, Any], taken: dict[str, Any], at: str, depth: int) -> Iterator[Refusal]:
        fields, known = mapping(written.get("properties")), mapping(taken.get("properties"))
        always = _names(written.get("required"))
        for name in _names(taken.get("required")):
            if name not in always:
                yield Refusal(_join(at, name), "may be missing" if name in fields else "is missing")
        others = taken.get("additionalProperties", True)
        for name, schema in fields.items():
            if name in known:
                yield from self.refusals(schema, known[name], _join(at, name), depth)
            elif others is False:
                yield Refusal(_join(at, name), "excluded")
            elif isinstance(others, dict):
                yield from self.refusals(schema, others, _join(at, name), depth)
            else:
                yield Refusal(_join(at, name), "unknown")
        rest = written.get("additionalProperties")
        if isinstance(rest, dict) and isinstance(others, dict):
            yield from self.refusals(rest, others, _join(at, "*"), depth)

    def _of_items(self, written: dict[str, Any], taken: dict[str, Any], at: str, depth: int) -> Iterator[Refusal]:
        ours, rest = _items(written)
        theirs, others = _items(taken)
        if ours and rest is True:
            rest = False  # as with fields: what a schema does not name is not written
        for index in range(max(len(ours), len(theirs))):
            one = ours[index] if index < len(ours) else rest
            other = theirs[index] if index < len(theirs) else others
            place = f"{at}[{index}]"
            if other is False:
                if one is not False:
                    yield Refusal(place, "excluded")
            elif index < len(ours) and index >= len(theirs) and other is True:
                yield Refusal(place, "unknown")
            elif one is not False:
                yield from self.refusals(one, other, place, depth)
        if isinstance(rest, dict) and isinstance(others, dict):
            yield from self.refusals(rest, others, f"{at}[]", depth)

    def _shown(self, document: dict[str, Any], schema: Any) -> str:
        return " or ".join(dict.fromkeys(_one_shown(choice) for choice in self._choices(document, schema, 0))) or "none"


def _reference(schema: Any) -> str | None:
    """Return the name of a schema that has one."""
    parts = mapping(schema).get("allOf")
    for one in [schema, *(parts if isinstance(parts, list) else [])]:
        if isinstance(target := mapping(one).get("$ref"), str):
            return target
    return None


def _of_values(written: dict[str, Any], taken: dict[str, Any], at: str) -> Iterator[Refusal]:
    known = taken.get("enum")
    if not isinstance(known, list):
        return
    values = written.get("enum")
    if not isinstance(values, list):
        yield Refusal(at, "type", _one_shown(written), _one_shown(taken))
    elif unknown := [value for value in values if value not in known]:
        yield Refusal(at, "values", _listed(unknown))


def _of_limits(written: dict[str, Any], taken: dict[str, Any], at: str) -> Iterator[Refusal]:
    if "enum" in written:
        return  # its values say more
    for keys, sign in ((_LOWEST, 1), (_HIGHEST, -1)):
        for key in keys:
            limit, own = _number(taken.get(key)), _number(written.get(key))
            if limit is not None and (own is None or sign * own < sign * limit):
                yield _limit(at, key, own, limit)
    for key in _SAME:
        if key in taken and taken[key] != written.get(key):
            yield _limit(at, key, written.get(key), taken[key])


def _limit(at: str, key: str, written: object, taken: object) -> Refusal:
    return Refusal(at, "limit", *(f"{key} {'not set' if value is None else value}" for value in (written, taken)))


def _items(schema: dict[str, Any]) -> tuple[list[Any], Any]:
    """Return the schemas of the first items, and that of all others: `True` for anything, `False` if there are none."""
    items, more = schema.get("items", True), schema.get("additionalItems", True)
    if isinstance(schema.get("prefixItems"), list):
        return schema["prefixItems"], items
    return (items, more) if isinstance(items, list) else ([], items)


def _takes_type(written: dict[str, Any], taken: dict[str, Any]) -> bool:
    return _fits(written["type"], taken["type"])


def _fits(written: object, taken: object) -> bool:
    return taken is None or written == taken or (written == "integer" and taken == "number")


def _type_of(value: object) -> str:
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "string")


def _weight(found: list[Refusal]) -> int:
    return sum(one.kind != "unknown" for one in found)


def _is_named_alike(written: dict[str, Any], taken: dict[str, Any]) -> bool:
    return written.get("title") is not None and written.get("title") == taken.get("title")


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _one_shown(schema: dict[str, Any]) -> str:
    if isinstance(values := schema.get("enum"), list):
        return f"one of {_listed(values)}"
    title = schema.get("title")
    kind = schema["type"] or "anything"
    return f"{title} ({kind})" if isinstance(title, str) else str(kind)


def _listed(values: list[Any]) -> str:
    shown = [msgspec.json.encode(value, enc_hook=str).decode() for value in values[:8]]
    return ", ".join([*shown, "..."] if len(values) > len(shown) else shown)
