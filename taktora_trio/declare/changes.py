"""What has changed from one AsyncAPI document to the next, and whether it breaks those at the other side.

They are the consumers of what the app sends, and the producers of what it receives. The one may not meet what they did
not expect, the other must be understood as before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from taktora_trio.declare.references import mapping, resolved
from taktora_trio.declare.schema_changes import Refusal, refusals
from taktora_trio.escaping import escaped

__all__ = ["Change", "changes"]

_PARAMETER = re.compile(r"\{([^}]*)\}")
_ONE, _MANY = "{}", "{*}"
_LONGEST = 300


class Change(msgspec.Struct, frozen=True):
    """One change of one channel."""

    breaks: bool
    """True if it breaks somebody who goes by the old document."""
    channel: str
    what: str

    def __str__(self) -> str:
        return escaped(f"{'breaking' if self.breaks else 'compatible'}: {self.channel}: {self.what}", 2 * _LONGEST)


class _Operation(msgspec.Struct, frozen=True):
    """An operation of a document, with its channel."""

    document: dict[str, Any]
    name: str
    action: str
    content: dict[str, Any]
    channel: dict[str, Any]

    @property
    def address(self) -> str:
        return str(self.channel.get("address"))

    @property
    def levels(self) -> list[str]:
        """The levels of the address, without the names of its parameters, which are nothing that others see."""
        parameters = mapping(self.channel.get("parameters"))

        def anything(found: re.Match[str]) -> str:
            parameter = mapping(resolved(self.document, parameters.get(found[1])))
            return _MANY if parameter.get("x-many-levels") is True else _ONE

        return _PARAMETER.sub(anything, self.address).split("/")


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return what has changed. Raises `ConfigError` for a document that can't be understood."""
    return [*_changes(_operations(old), _operations(new))]


def _operations(document: dict[str, Any]) -> dict[tuple[str, str], _Operation]:
    """Return the operations of a document, by their channel's name and their action."""
    found = {}
    channels = mapping(document.get("channels"))
    for one in mapping(document.get("operations")).values():
        content = mapping(resolved(document, one))
        reference = mapping(content.get("channel"))
        name = str(reference.get("$ref")).rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        channel = mapping(resolved(document, channels.get(name, reference)))
        action = str(content.get("action"))
        found[name, action] = _Operation(document, name, action, content, channel)
    return found


def _changes(old: dict[tuple[str, str], _Operation], new: dict[tuple[str, str], _Operation]) -> Iterator[Change]:
    left = {key: one for key, one in new.items() if key not in old}
    for key, before in old.items():
        if key in new:
            yield from _of_operation(before, new[key])
        elif (renamed := _at_the_same_address(before, left)) is not None:
            del left[renamed.name, renamed.action]
            yield Change(False, before.name, f"it is called {renamed.name} now")
            yield from _of_operation(before, renamed)
        elif (turned := next((one for one in left.values() if one.name == before.name), None)) is not None:
            del left[turned.name, turned.action]
            yield Change(True, before.name, f"its direction has changed: it was {before.action}, it is {turned.action}")
        else:
            yield Change(True, before.name, f"it is gone ({before.action} {before.address})")
    for one in left.values():
        yield Change(False, one.name, f"it is new ({one.action} {one.address})")


def _at_the_same_address(before: _Operation, left: dict[tuple[str, str], _Operation]) -> _Operation | None:
    return next((one for one in left.values() if one.action == before.action and one.levels == before.levels), None)


def _of_operation(before: _Operation, after: _Operation) -> Iterator[Change]:
    yield from _of_address(before, after)
    yield from _of_bindings(before, after)
    yield from _of_limits(before, after)
    yield from _of_messages(before, after)


def _of_address(before: _Operation, after: _Operation) -> Iterator[Change]:
    """Who sends must send where it was sent before, and who receives must receive it from there."""
    changed = f"it was {before.address}, it is {after.address}"
    if before.levels == after.levels:
        if before.address != after.address:
            yield Change(False, after.name, f"a parameter of its address has another name: {changed}")
        return
    wide, narrow = (before, after) if after.action == "send" else (after, before)
    yield Change(not _covers(wide.levels, narrow.levels), after.name, f"its address has changed: {changed}")


def _covers(wide: list[str], narrow: list[str]) -> bool:
    """Return whether each address of the one is an address of the other."""
    for index, level in enumerate(wide):
        if level == _MANY:
            return True
        if index == len(narrow) or narrow[index] == _MANY or level not in (_ONE, narrow[index]):
            return False
    return len(narrow) == len(wide)


def _of_bindings(before: _Operation, after: _Operation) -> Iterator[Change]:
    """A protocol promises less where a number is lower, or a flag is gone."""
    olds, news = (_bindings(one) for one in (before, after))
    for protocol, key in dict.fromkeys([*olds, *news]):
        old, new = (them.get((protocol, key)) for them in (olds, news))
        if old == new or key == "bindingVersion":
            continue
        what = f"{key} of {protocol} was {_shown(old)}, is {_shown(new)}"
        yield Change(_is_lower(old, new), after.name, what)


def _is_lower(old: Any, new: Any) -> bool:
    return all(value is None or isinstance(value, int | float) for value in (old, new)) and (new or 0) < (old or 0)


def _bindings(operation: _Operation) -> dict[tuple[str, str], Any]:
    bindings = mapping(resolved(operation.document, operation.content.get("bindings")))
    return {
        (protocol, key): value
        for protocol, binding in bindings.items()
        for key, value in mapping(resolved(operation.document, binding)).items()
    }


def _of_limits(before: _Operation, after: _Operation) -> Iterator[Change]:
    """A message that is larger than what the app has room for is discarded."""
    for key, about in (("x-max-payload", "payload"), ("x-max-topic", "topic"), ("x-max-metadata", "metadata")):
        old, new = (one.channel.get(key) for one in (before, after))
        if not isinstance(old, int) or not isinstance(new, int) or old == new:
            continue
        is_less = new < old and (new > 0 or key == "x-max-payload")  # without room for any, it is left out
        what = f"its largest {about} was {old} bytes, is {new}"
        yield Change(is_less and after.action == "receive", after.name, what)
    if before.channel.get("x-window") != after.channel.get("x-window"):
        windows = (_shown(one.channel.get("x-window")) for one in (before, after))
        yield Change(False, after.name, "its window was {}, is {}".format(*windows))


def _of_messages(before: _Operation, after: _Operation) -> Iterator[Change]:
    yield from _of_encodings(before, after)
    (old_types, old), (new_types, new) = _payload(before), _payload(after)
    if old_types != new_types:
        yield Change(True, after.name, f"its content type was {_listed(old_types)}, is {_listed(new_types)}")
        return
    sends = after.action == "send"
    by_new = [(True, one) for one in refusals(new, after.document, old, before.document)]
    by_old = [(False, one) for one in refusals(old, before.document, new, after.document)]
    breaking = [(is_new, one) for is_new, one in (by_new if sends else by_old) if one.kind != "unknown"]
    for is_new, one in breaking:
        yield Change(True, after.name, _text(one, is_new=is_new, sends=sends))
    seen = {one.at for _, one in breaking}
    for is_new, one in by_new + by_old:
        if one.at not in seen:
            seen.add(one.at)
            yield Change(False, after.name, _text(one, is_new=is_new, sends=sends))


def _of_encodings(before: _Operation, after: _Operation) -> Iterator[Change]:
    """Who sends may use no encoding that the other side does not know."""
    old, new = (
        {str(name) for message in _messages(one) for name in _list(message.get("x-content-encoding"))}
        for one in (before, after)
    )
    sends = after.action == "send"
    for name in sorted(new - old):
        yield Change(sends, after.name, f"a payload may be compressed by {name} now")
    for name in sorted(old - new):
        yield Change(not sends, after.name, f"a payload can't be compressed by {name} any more")


def _messages(operation: _Operation) -> list[dict[str, Any]]:
    messages = operation.content.get("messages")
    if not isinstance(messages, list):
        messages = [*mapping(operation.channel.get("messages")).values()]
    return [mapping(resolved(operation.document, message)) for message in messages]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _payload(operation: _Operation) -> tuple[list[str], Any]:
    """Return the content types of an operation's messages, and a schema that all of their payloads fit."""
    document = operation.document
    messages = _messages(operation)
    default = document.get("defaultContentType", "")
    types = sorted({str(message.get("contentType", default)) for message in messages})
    payloads = [_json_schema(document, message.get("payload", {})) for message in messages]
    return types, payloads[0] if len(payloads) == 1 else {"anyOf": payloads} if payloads else {}


def _json_schema(document: dict[str, Any], payload: Any) -> Any:
    with_format = mapping(resolved(document, payload))
    return with_format.get("schema", {}) if "schemaFormat" in with_format else payload


def _text(one: Refusal, *, is_new: bool, sends: bool) -> str:
    """Say what has changed. `is_new` if what is written now was not taken before."""
    what = f"field {one.at}" if one.at else "the message"
    match one.kind:
        case "is missing":
            return f"{what} is gone" if is_new else f"{what} is new{'' if sends else ', and required'}"
        case "may be missing":
            now_there = "is always there now" if sends else "is required now"
            return f"{what} may be missing now" if is_new else f"{what} {now_there}"
        case "unknown":
            return f"{what} is {'new' if is_new else 'gone'}"
        case "excluded":
            return f"{what} is new, where others were excluded" if is_new else f"{what} is refused now"
        case "values":
            return f"{what} may be {one.written} now" if is_new else f"{what} can't be {one.written} any more"
        case _:
            old, new = (one.taken, one.written) if is_new else (one.written, one.taken)
            return f"{what} was {old}, is {new}"


def _shown(value: object) -> str:
    return "not set" if value is None else msgspec.json.encode(value, enc_hook=str).decode()[:_LONGEST]


def _listed(types: list[str]) -> str:
    return ", ".join(types) or "none"
