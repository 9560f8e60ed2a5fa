"""The schemas for editors say what the models say, and describe every key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from campaigns import schema
from campaigns.yaml_source import parse_yaml, read_yaml

BOOK = Path(__file__).parents[2] / "campaigns" / "book"


def validator(file: str) -> jsonschema.Draft202012Validator:
    described = json.loads(schema.schema_json(file))
    jsonschema.Draft202012Validator.check_schema(described)
    return jsonschema.Draft202012Validator(described)


def schema_of(path: Path) -> str:
    return {"offers.yaml": "schema-offers.json", "segments.yaml": "schema-segments.json"}.get(path.name, "schema.json")


def properties(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        for name, described in node.get("properties", {}).items():
            yield f"{where}.{name}", described
        for name, below in node.items():
            yield from properties(below, f"{where}.{name}")
    elif isinstance(node, list):
        for below in node:
            yield from properties(below, where)


@pytest.mark.parametrize("file", schema.FILES)
def test_the_schema_in_the_tree_is_current(file: str) -> None:
    assert schema.check(schema.HERE / file), "run python -m campaigns.schema"


@pytest.mark.parametrize("file", schema.FILES)
def test_every_key_has_a_description_and_no_key_may_be_unknown(file: str) -> None:
    described = json.loads(schema.schema_json(file))
    bare = [name for name, key in properties(described) if "description" not in key and ".anyOf" not in name]
    assert bare == []
    open_ones = [
        name
        for name, part in described["$defs"].items()
        if part.get("type") == "object" and part.get("additionalProperties") is not False
    ]
    assert open_ones == []
    assert "null" not in schema.schema_json(file)


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_is_valid_and_names_its_schema(path: Path) -> None:
    source = read_yaml(path)
    assert list(validator(schema_of(path)).iter_errors(source.values)) == []
    assert source.text.startswith(f"# yaml-language-server: $schema=../{schema_of(path)}\n")


@pytest.mark.parametrize(
    "change",
    [
        "statsu: active",
        "status: activ",
        "experiment: {control: 0.2}",
        "audience: {segment: x, limit: 0}",
        "timing: {window: {from: 9:00, to: '19:00'}}",
        "timing: {window: {days: [mo], from: '09:00', to: '19:00'}}",
        "timing: {at: noon}",
        "timing: {spread: evenly}",
        "caps: {per_customer: 2}",
        "caps: {per_customer: {smss: 1 per 7 days}}",
        "arms: {'Ten Percent': {weight: 80%, steps: [{channel: sms, template: x}]}}",
        "arms: {a: {weight: 80%, steps: []}}",
        "arms: {a: {weight: 80%, steps: [{channel: fax, template: x}]}}",
        "budget: {cost: €5}",
        "feedback: {mode: 'on'}",
    ],
)
def test_an_editor_marks_what_the_model_refuses(change: str, smallest: str) -> None:
    values = parse_yaml(smallest).values
    assert list(validator("schema.json").iter_errors(values)) == []
    assert list(validator("schema.json").iter_errors({**values, **parse_yaml(change).values}))


def test_offers_and_segments_are_checked_by_their_own_schemas() -> None:
    assert list(validator("schema-offers.json").iter_errors({"x": {"kind": "gift", "text": "t"}}))
    assert list(validator("schema-offers.json").iter_errors({"Bad Name": {"kind": "none", "text": "t"}}))
    assert list(validator("schema-segments.json").iter_errors({"a": {"were": "x"}}))
    assert list(validator("schema-segments.json").iter_errors({"a-b": {"where": "x"}}))


def test_metrics_are_completed_from_the_known_ones() -> None:
    described = json.loads(schema.schema_json())
    assert "repurchase" in described["$defs"]["Experiment"]["properties"]["primary"]["enum"]


def test_check_tells_a_stale_schema_and_a_run_renews_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "HERE", tmp_path)
    (tmp_path / "schema.json").write_text("{}")
    assert schema.main(["--check"]) == 1
    assert "schema.json, schema-offers.json, schema-segments.json: not what the model says" in capsys.readouterr().err
    assert (tmp_path / "schema.json").read_text() == "{}"
    assert schema.main([]) == 0
    assert schema.main(["--check"]) == 0
    assert schema.main(["--chek"]) == 2
