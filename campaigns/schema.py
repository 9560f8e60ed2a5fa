"""The JSON schemas of the marketers' files, generated from the models, for editors: `python -m campaigns.schema`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from campaigns.model import Campaign
from campaigns.offer_terms import Terms
from campaigns.segment_file import SegmentDefinition, SegmentName
from campaigns.words import Slug

FILES: Final[Mapping[str, tuple[str, Any]]] = MappingProxyType(
    {
        "schema.json": ("A campaign file of retain", Campaign),
        "schema-offers.json": ("offers.yaml of retain: the offers by name", dict[Slug, Terms]),
        "schema-segments.json": (
            "segments.yaml of retain: the named segments by name",
            dict[SegmentName, SegmentDefinition],
        ),
    }
)
"""The schema files of this folder: their title and what they describe."""
HERE: Final = Path(__file__).parent
_JSON_TYPES: Final[Mapping[type, str]] = MappingProxyType(
    {bool: "boolean", int: "integer", float: "number", str: "string"}
)


def schema_json(file: str = "schema.json") -> str:
    """The text of one of FILES: JSON Schema 2020-12, keys sorted, the same every time."""
    title, kind = FILES[file]
    schema = TypeAdapter(kind).json_schema(by_alias=True, schema_generator=_Plain)
    schema["title"] = title
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def check(path: Path) -> bool:
    """Whether the schema file at `path` says what the model says today."""
    return path.is_file() and path.read_text(encoding="utf-8") == schema_json(path.name)


def main(arguments: Sequence[str]) -> int:
    """Write the schema files, or with --check only compare them. Gives the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m campaigns.schema [--check]\n")
        return 2
    stale = [name for name in FILES if not check(HERE / name)]
    if arguments and stale:
        sys.stderr.write(f"{', '.join(stale)}: not what the model says; run python -m campaigns.schema\n")
        return 1
    for name in stale:
        (HERE / name).write_text(schema_json(name), encoding="utf-8")
    return 0


class _Plain(GenerateJsonSchema):
    """What may be left out is left out: no nulls, no computed defaults, no titles that repeat the key."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        if _JSON_TYPES.get(type(default), "none of these") == inner.get("type") and default != "":
            inner = {**inner, "default": default}
        return inner

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        described = super().dict_schema(schema)
        return {**described, "additionalProperties": False} if "patternProperties" in described else described

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        return False


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
