"""What every flow shares: the workspace it works on, the instant it works at, its names and its result page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.settings import read_settings, workspace_root
from flows.wiring import Workspace, open_workspace


def named_by(*names: str) -> str:
    """The name of the current flow run: the values of these parameters and the scheduled date."""
    parameters = flow_run.get_parameters()
    values = [str(parameters[name]) for name in names if parameters.get(name)]
    return " ".join([*values, scheduled_at(None).strftime("%Y-%m-%d %H:%M")])


def scheduled_at(given: datetime | None) -> datetime:
    """The instant a run works at: the one given, else the one it was scheduled for (aware UTC)."""
    moment = given or flow_run.get_scheduled_start_time() or datetime.now(UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def workspace_of(path: str | None) -> Iterator[Workspace]:
    """The workspace at `path`, else at RETAIN_WORKSPACE, else the working directory of the run."""
    with open_workspace(read_settings(workspace_root(path))) as workspace:
        yield workspace


def publish_table(key: str, *, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Publish a markdown table as the run's artifact under `key` (lower case, dashes)."""
    lines = [f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    create_markdown_artifact(key=key, markdown="\n".join(lines), description=title)


def artifact_key(*parts: str) -> str:
    """A key Prefect accepts, made of these parts."""
    text = "-".join(parts).lower()
    return "".join(c if c.isalnum() else "-" for c in text)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")
