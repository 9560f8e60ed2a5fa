"""Tells a workspace from any other directory, before anything is opened or made in it."""

from __future__ import annotations

from pathlib import Path

from campaigns.book import BOOK
from flows.settings import SettingsError, workspace_root


def find_workspace(path: str | Path | None) -> Path:
    """The workspace at `path` (else RETAIN_WORKSPACE, else the working directory), as an absolute path.

    Raises SettingsError where there is no such directory, or one that is no workspace.
    """
    root = workspace_root(path).resolve()
    if not root.is_dir():
        raise SettingsError(f"{root}: no such directory; expected a workspace; make one with `retain init {root}`")
    if not (root / BOOK).is_dir():
        raise SettingsError(
            f"{root}: not a workspace, it has no {BOOK.as_posix()}; make one with `retain init {root}`, "
            "or name another one with --workspace or RETAIN_WORKSPACE"
        )
    return root
