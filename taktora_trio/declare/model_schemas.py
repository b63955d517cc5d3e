"""The schemas of pydantic's models, as pydantic makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

__all__ = ["describe_models"]


def describe_models(
    models: Iterable[Any], direction: Literal["out", "in"], template: str
) -> tuple[dict[Any, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return a reference for each model, and the definitions that they refer to, by name.

    `template` is that of a reference, with `{model}` for the name.
    """
    from pydantic.json_schema import GenerateJsonSchema, models_json_schema  # whoever has models has it

    class Sent(GenerateJsonSchema):
        """A model that is sent has all of its fields, also those with a default."""

        def field_is_required(self, field: Any, total: bool) -> bool:
            if field["type"] == "typed-dict-field":
                return super().field_is_required(field, total)
            return not field.get("serialization_exclude") and field.get("serialization_exclude_if") is None

    mode: Literal["serialization", "validation"] = "serialization" if direction == "out" else "validation"
    found, content = models_json_schema(
        [(model, mode) for model in models],
        ref_template=template,
        schema_generator=Sent if direction == "out" else GenerateJsonSchema,
    )
    return {model: schema for (model, _), schema in found.items()}, content.get("$defs", {})
