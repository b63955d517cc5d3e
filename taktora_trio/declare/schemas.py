"""The schemas of message types, as JSON Schema that an AsyncAPI document may hold (draft 7).

What is sent and what is received are described apart. A message that is sent has all fields of its type; a message that
is received may lack those with a default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec

from taktora_trio.channels.message_types import inspect_type, parts_of
from taktora_trio.declare.model_schemas import describe_models

__all__ = ["PREFIX", "Schema", "make_schemas", "mapped", "parts_of_schema"]

Schema: TypeAlias = dict[str, Any]
Direction: TypeAlias = Literal["out", "in"]

PREFIX = "#/components/schemas/"
"""What a reference to a definition begins with."""
_SENT = "-sent"
_MODEL = "-model"
# Where a schema has others in it: one, a list of them, or some by name.
_ONE = ("additionalItems", "additionalProperties", "contains", "items", "not", "propertyNames")
_LISTS = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_BY_NAME = ("patternProperties", "properties")


def make_schemas(types: Sequence[tuple[Direction, Any]]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schema of each type, and the definitions that they refer to, by name.

    A type that is both sent and received has two definitions where these differ.
    """
    sent, sent_definitions = _described([kind for direction, kind in types if direction == "out"], "out")
    received, definitions = _described([kind for direction, kind in types if direction == "in"], "in")
    renamed = {name: f"{name}{_SENT}" for name in _unlike(sent_definitions, definitions)}
    for name, definition in sent_definitions.items():
        definitions[renamed.get(name, name)] = _renamed(definition, renamed)
    schemas = {"out": iter([_renamed(schema, renamed) for schema in sent]), "in": iter(received)}
    return [next(schemas[direction]) for direction, _ in types], dict(sorted(definitions.items()))


def parts_of_schema(schema: Any) -> Iterator[Any]:
    """Yield the schemas that stand in a schema, without those in them."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in _ONE and isinstance(value, dict):
            yield value
        elif key in _LISTS and isinstance(value, list):
            yield from value
        elif key in _BY_NAME and isinstance(value, dict):
            yield from value.values()


def mapped(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Return a copy of a schema, with each schema in it changed."""

    def changed(key: str, value: Any) -> Any:
        if key in _ONE and isinstance(value, dict):
            return change(value)
        if key in _LISTS and isinstance(value, list):
            return [change(one) for one in value]
        if key in _BY_NAME and isinstance(value, dict):
            return {name: change(one) for name, one in value.items()}
        return value

    return {key: changed(key, value) for key, value in schema.items()}


def _described(types: Sequence[Any], direction: Direction) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schemas of these types and their definitions, with all fields required in what is sent."""
    classes, models = (list(dict.fromkeys(kinds)) for kinds in _classes_of(types))
    references, of_models = describe_models(models, direction, f"{PREFIX}{{model}}{_MODEL}") if models else ({}, {})
    schemas, own = msgspec.json.schema_components(
        [*types, *classes], ref_template=f"{PREFIX}{{name}}", schema_hook=references.__getitem__
    )
    if direction == "out":
        for schema, cls in zip(schemas[len(types) :], classes, strict=True):
            _require_all(own[schema["$ref"].removeprefix(PREFIX)], cls)
    names = {f"{name}{_MODEL}": name for name in of_models if name not in own}  # else there are two of that name
    definitions = {**own, **{names.get(f"{name}{_MODEL}", f"{name}{_MODEL}"): one for name, one in of_models.items()}}
    return (
        [_renamed(_adapted(schema), names) for schema in schemas[: len(types)]],
        {name: _renamed(_adapted(definition), names) for name, definition in definitions.items()},
    )


def _classes_of(types: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Return the classes with fields that these types are made of, and the models of pydantic."""
    classes, models = [], []
    seen: set[int] = set()
    described = [inspect_type(kind) for kind in types]  # kept, for the parts are known by their ids
    for info in described:
        for part in parts_of(info, seen):
            if isinstance(part, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
                classes.append(part.cls)
            elif isinstance(part, msgspec.inspect.CustomType):
                models.append(part.cls)
    return classes, models


def _require_all(definition: Schema, cls: Any) -> None:
    """Require what each message of a class has when it is sent: all fields but those that may be left out."""
    origin = get_origin(cls) or cls
    config = getattr(origin, "__struct_config__", None)
    if config is not None and config.omit_defaults:
        return
    if "prefixItems" in definition:
        definition["minItems"] = len(definition["prefixItems"])
        return
    hints = get_type_hints(origin)
    info: Any = inspect_type(cls)
    always = {one.encode_name for one in info.fields if msgspec.UnsetType not in get_args(hints.get(one.name))}
    always |= {*definition.get("required", ())}
    if required := [name for name in definition.get("properties", ()) if name in always]:
        definition["required"] = required


def _adapted(schema: Schema) -> Schema:
    """Return a schema of msgspec's in the terms of draft 7, which AsyncAPI extends."""
    schema = mapped(schema, _adapted)
    schema.pop("discriminator", None)  # an object in OpenAPI, a name in AsyncAPI; each choice has its tag as a constant
    if not schema.get("required", True):
        del schema["required"]
    if "prefixItems" in schema:
        rest = schema.pop("items", None)
        schema["items"] = schema.pop("prefixItems")
        if rest is not None:
            schema["additionalItems"] = rest
    if isinstance(text := schema.get("description"), str):
        schema["description"] = inspect.cleandoc(text)
    if "$ref" in schema and len(schema) > 1:  # what stands beside a reference does not count
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema


def _unlike(sent: dict[str, Schema], received: dict[str, Schema]) -> set[str]:
    """Return the names that stand for two definitions, in themselves or by what they refer to."""
    both = sent.keys() & received.keys()
    unlike = {name for name in both if sent[name] != received[name]}
    while more := {name for name in both - unlike if unlike & {*_references_in(sent[name])}}:
        unlike |= more
    return unlike


def _references_in(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict) and "$ref" in schema:
        yield schema["$ref"].removeprefix(PREFIX)
    for part in parts_of_schema(schema):
        yield from _references_in(part)


def _renamed(schema: Schema, names: dict[str, str]) -> Schema:
    schema = mapped(schema, lambda part: _renamed(part, names))
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PREFIX)
        schema["$ref"] = f"{PREFIX}{names.get(name, name)}"
    return schema
