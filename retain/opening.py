"""Opens the workspace a command works on; the heavy rooms are imported only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.wiring import Workspace


@contextmanager
def opened(root: Path | None, **overrides: Any) -> Iterator[Workspace]:
    """The workspace at `root` (else RETAIN_WORKSPACE, else here), closed afterwards."""
    from flows.settings import read_settings, workspace_root
    from flows.wiring import open_workspace

    settings = read_settings(workspace_root(root), overrides=overrides)
    with open_workspace(settings) as workspace:
        yield workspace
