"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", metavar="DIR", help="The workspace directory.", show_default="RETAIN_WORKSPACE, else here"
    ),
]
NowOption = Annotated[
    str | None,
    typer.Option(
        "--now",
        metavar="INSTANT",
        help="The instant to act at (ISO 8601, UTC if it names no zone).",
        show_default="the clock",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="INSTANT",
        help="Select customers as of this instant (ISO 8601).",
        show_default="--now or the clock",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]
ByOption = Annotated[str, typer.Option("--by", metavar="WHO", help="Who does this; it is recorded.")]


def customer_id(text: str) -> str:
    """The id as it stands. Raises typer.BadParameter for one of blanks: it names nobody."""
    if not text.strip():
        raise typer.BadParameter("expected the id of a customer, got nothing")
    return text


CustomerArgument = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.", callback=customer_id)]
CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]


def instant(text: str | None, *, option: str = "--now") -> datetime:
    """The aware UTC instant that `text` names; the clock's where it is None.

    Raises typer.BadParameter for a text that is no ISO 8601 date or time.
    """
    if text is None:
        return datetime.now(UTC)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" is no date or time; expected ISO 8601 such as 2026-03-01 or 2026-03-01T09:00:00+01:00',
            param_hint=option,
        ) from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
