"""The pages of documentation that are made from the code: `python -m retain.documents [--check | --demo]`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from flows.steps.make_workspace import TREE
from retain import reference, showcase

PAGES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "docs/operators/settings.md": reference.settings_page,
        "docs/operators/commands.md": reference.commands_page,
        "docs/operators/reason-codes.md": reference.reasons_page,
        "docs/marketers/features.md": reference.features_page,
        "docs/marketers/template-variables.md": reference.variables_page,
        "docs/marketers/legal-hours.md": reference.legal_hours_page,
    }
)
"""The pages that are made as a whole."""
README: Final = "README.md"


def main(arguments: Sequence[str], *, root: Path = TREE) -> int:
    """Write what is stale; with --check only name it; with --demo run the demonstration for the README first.

    Gives the exit code: 1 where --check finds something stale.
    """
    if list(arguments) not in ([], ["--check"], ["--demo"]):
        sys.stderr.write("usage: python -m retain.documents [--check | --demo]\n")
        return 1
    if arguments == ["--demo"]:
        _write(root, [README], {README: showcase.with_demo(_read(root, README), showcase.run_demo())})
    made = {path: make() for path, make in PAGES.items()}
    made[README] = showcase.with_campaign(_read(root, README), _read(root, showcase.CAMPAIGN))
    stale = [path for path, text in made.items() if _read(root, path) != text]
    if arguments == ["--check"]:
        for path in stale:
            sys.stderr.write(f"{path}: not what the code says; run python -m retain.documents\n")
        return 1 if stale else 0
    _write(root, stale, made)
    return 0


def _read(root: Path, path: str) -> str:
    file = root / path
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _write(root: Path, paths: Iterable[str], texts: Mapping[str, str]) -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(texts[path], encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
