"""docs/maths.md names every public estimator, and everything it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "maths.md").read_text(encoding="utf-8")
NOT_ESTIMATORS = {"errors", "evidence", "results", "design", "distributions", "tables_html", "__init__"}


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_every_public_estimator_is_on_the_page() -> None:
    missing = [
        f"{path.stem}.{node.name}"
        for path in sorted((ROOT / "experiments").glob("*.py"))
        if path.stem not in NOT_ESTIMATORS
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if f"`{path.stem}.{node.name}`" not in PAGE
    ]
    assert missing == []


def test_everything_the_page_names_exists() -> None:
    modules = {path.stem: _functions(path) for path in (ROOT / "experiments").glob("*.py")}
    named = re.findall(r"`([a-z_]+)\.([A-Za-z_]+)`", PAGE)
    assert len(named) > 90
    assert [f"{module}.{name}" for module, name in named if name not in modules.get(module, set())] == []


def test_every_test_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[a-z_/]+\.py)::([a-z_0-9]+)`", PAGE)
    assert len(named) > 40
    assert [f"{path}::{name}" for path, name in named if name not in _functions(ROOT / path)] == []


def test_every_test_a_docstring_names_exists() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "experiments").glob("*.py")}
    named = [(source, name) for source, text in texts.items() for name in re.findall(r"tests/[a-z_/]+\.py", text)]
    assert len(named) > 0
    assert [(source, name) for source, name in named if not (ROOT / name).exists()] == []


def test_every_vector_a_docstring_or_the_page_names_exists() -> None:
    import json

    ids = {vector["id"] for vector in json.loads((ROOT / "tests/reference/stats_vectors.json").read_text("utf-8"))}
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "experiments").glob("*.py")}
    named = [
        (source, name)
        for source, text in (texts | {"maths.md": PAGE}).items()
        for group in re.findall(r"\b[Vv]ectors? ([a-z][a-z0-9_*]+(?:, [a-z0-9_*]+)*)", text)
        for name in group.split(", ")
        if "_" in name
    ]
    assert len(named) > 0
    unknown = [n for n in named if not any(re.fullmatch(n[1].replace("*", ".*"), known) for known in ids)]
    assert unknown == []
