"""Arguments and options that several commands share, and what their texts mean."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

AGAIN: Final = "May be given again."
"""Ends the help of an option that takes several values, one each time."""

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
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="WHO", help="Who does this; it is recorded.", show_default="the setting operator"),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is recorded.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="THEIRS=OURS", help=f"A column of the file that bears another name. {AGAIN}"),
]


def customer_id(text: str) -> str:
    """The id as it stands. Raises typer.BadParameter for one of blanks: it names nobody."""
    if not text.strip():
        raise typer.BadParameter("expected the id of a customer, got nothing")
    return text


CustomerArgument = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.", callback=customer_id)]
CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]


def pairs(texts: Iterable[str], *, option: str, expected: str) -> list[tuple[str, str]]:
    """(left, right) of every text LEFT=RIGHT. Raises typer.BadParameter, which says what was expected, for another."""
    found = []
    for text in texts:
        left, separator, right = text.partition("=")
        if not (left and separator and right):
            raise typer.BadParameter(f'"{text}" cannot be read; expected {expected}', param_hint=option)
        found.append((left, right))
    return found


def renamed(texts: Iterable[str] | None) -> dict[str, str]:
    """Our column -> theirs, out of what --map was given. Raises typer.BadParameter for a text that is none."""
    expected = "THEIRS=OURS such as id=order_id"
    return {ours: theirs for theirs, ours in pairs(texts or (), option="--map", expected=expected)}


def selection_instant(as_of: str | None, now: str | None) -> datetime:
    """The instant customers are selected at: --as-of, else --now, else the clock.

    Raises typer.BadParameter, which names the option that cannot be read.
    """
    return instant(now) if as_of is None else instant(as_of, option="--as-of")


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
