"""Makes a workspace: the sample campaigns and templates, settings, deployments and a key of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from flows.settings import SettingsError
from flows.wiring import write_key_file

TREE: Final = Path(__file__).resolve().parents[2]
"""Where the product's own files lie: it is itself a workspace."""

_IGNORED: Final = "data/\noutbox/\n.retain/\nreports/\n"


def make_workspace(root: Path, *, book: Path | None = None, templates: Path | None = None) -> list[Path]:
    """Fill `root` with a workspace and give the files made, relative to it; other files there and its key are not told.

    `book` and `templates` are copied instead of the samples where given. Raises SettingsError where `root` already
    holds one of the files: nothing is written then.
    """
    sources = {
        Path("campaigns/book"): book or TREE / "campaigns" / "book",
        Path("campaigns/schema.json"): TREE / "campaigns" / "schema.json",
        Path("campaigns/schema-offers.json"): TREE / "campaigns" / "schema-offers.json",
        Path("campaigns/schema-segments.json"): TREE / "campaigns" / "schema-segments.json",
        Path("templates"): templates or TREE / "templates",
        Path("retain.toml"): TREE / "retain.toml",
        Path("prefect.yaml"): TREE / "prefect.yaml",
    }
    taken = [str(target) for target in sources if (root / target).exists()]
    if taken:
        raise SettingsError(
            f"{root}: holds {', '.join(taken)} already; expected a directory without; choose another one"
        )
    root.mkdir(parents=True, exist_ok=True)
    for target, source in sources.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, root / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, root / target)
    made = [path for target in sources for path in _files(root / target)]
    ignore = root / ".gitignore"
    if not ignore.exists():
        ignore.write_text(_IGNORED, encoding="utf-8")
        made.append(ignore)
    write_key_file(root)
    return sorted(path.relative_to(root) for path in made)


def _files(path: Path) -> list[Path]:
    """The file itself, or the files in a directory."""
    return [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]
