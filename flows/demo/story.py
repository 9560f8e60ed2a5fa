"""What the demonstration shows: its campaign, its files, the instant at which it begins."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

CAMPAIGN: Final = "winback-demo"
AS_OF: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday out of season; any other instant works too."""
BOOK: Final = Path(__file__).parent / "book"
TEMPLATES: Final = Path(__file__).parent / "templates"
