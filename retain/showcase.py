"""The parts of the README that come from elsewhere: a campaign as it stands, and what the demonstration printed."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import Final

CAMPAIGN: Final = "campaigns/book/winback-90d.yaml"
"""The campaign file that the README shows."""
SEED: Final = 7
CUSTOMERS: Final = 20_000
"""The demonstration that the README shows; both are the defaults of `retain demo`."""


def with_campaign(readme: str, campaign: str) -> str:
    """The README with the campaign's file in its place, without the notes to editors at the top."""
    shown = campaign[campaign.index("campaign: ") :]
    return _replace(readme, "campaign", f"```yaml\n{shown}```\n")


def with_demo(readme: str, printed: str) -> str:
    """The README with what the demonstration printed in its place."""
    return _replace(readme, "demo", f"```\n{printed}```\n")


def shown_demo(readme: str) -> str:
    """What the README says that the demonstration printed."""
    found = re.search(r"<!-- demo -->\n```\n(.*?)```\n<!-- /demo -->", readme, re.DOTALL)
    return found[1] if found else ""


def run_demo() -> str:
    """Run `retain demo` and give what is the same every time of what it prints."""
    from retain.demonstration import run_and_report

    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        run_and_report(Path(folder) / "demo", customers=CUSTOMERS, seed=SEED, quiet=False)
    return stable_part(printed.getvalue())


def stable_part(printed: str) -> str:
    """What `retain demo` prints, without paths and the time it took."""
    kept = [line.rstrip() for line in printed.split("\nworkspace ")[0].splitlines()]
    text = "\n".join(line for line in kept if not line.startswith(("--- ", "+++ ")))
    return re.sub(r"\n{2,}", "\n\n", text).strip("\n") + "\n"


def _replace(text: str, name: str, block: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: found[1] + block + found[2], text)
