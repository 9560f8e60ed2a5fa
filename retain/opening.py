"""Opens the workspace a command works on; the heavy rooms are imported only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.wiring import Workspace


@contextmanager
def opened(root: Path | None, *, by: str | None = None) -> Iterator[Workspace]:
    """The workspace at `root` (else RETAIN_WORKSPACE, else here), closed afterwards.

    `by`: who acts, as --by says it; it stands over the setting `operator`. Raises SettingsError where there is no
    workspace: nothing is opened or made then.
    """
    from flows.settings import read_settings
    from flows.steps.find_workspace import find_workspace
    from flows.wiring import open_workspace

    settings = read_settings(find_workspace(root), overrides={"operator": by} if by else {})
    with open_workspace(settings) as workspace:
        yield workspace
