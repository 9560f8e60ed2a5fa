"""What the tests of campaign files share: a workspace made of texts, and the smallest campaign that is valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SMALLEST = """\
campaign: winback-90d
audience: {segment: recency_days >= 90}
experiment:
  control: 20%
  horizon: 30 days
  primary: repurchase
  minimum_effect: 1.5pp
arms:
  ten-percent:
    weight: 80%
    offer: ten-percent
    steps:
      - {channel: sms, template: winback}
"""
OFFERS = """\
ten-percent:
  kind: percent_off
  percent: 10%
  text: {en: 10% off, zh: 九折}
  code: {kind: generated, prefix: WB}
  valid_for: 14 days
  cost: {redeemed: 8%, value: 5 EUR}
"""
SEGMENTS = """\
lapsing:
  description: Quiet for 90 days
  where: recency_days >= 90 and orders >= 2
"""

Workspace = Callable[..., Path]


@pytest.fixture
def smallest() -> str:
    """The smallest campaign file that is valid."""
    return SMALLEST


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Make a workspace of path=text; offers.yaml and segments.yaml are there unless given otherwise.

    A name without a folder is a file of campaigns/book.
    """

    def make(files: dict[str, str | bytes]) -> Path:
        for name, text in {"offers.yaml": OFFERS, "segments.yaml": SEGMENTS, **files}.items():
            path = tmp_path / (name if "/" in name else f"campaigns/book/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return make
