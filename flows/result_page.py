"""The result page of a flow run: a markdown table that Prefect shows. Ids and counts only."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact


def publish_table(key: str, *, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Publish a markdown table as the run's artifact under `key`."""
    create_markdown_artifact(key=key, markdown=markdown_table(title, columns, rows), description=title)


def markdown_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A heading and a table; numbers with four digits, a dash where there is no value."""
    lines = [f"## {_cell(title)}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)])


def artifact_key(*parts: str) -> str:
    """A key that Prefect accepts (a-z, 0-9 and dashes), made of these parts."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in "-".join(parts).lower())


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).replace("|", "\\|").split())
