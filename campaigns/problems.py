"""Problems of the marketers' files: what is wrong, in which file, line and column, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from campaigns.errors import CampaignError

Location = tuple[str | int, ...]
"""Keys and positions from the top of a file down to a value."""
Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; `str` gives `winback.yaml:14:7: arms.double-points.weigth: unknown key (did you mean "weight"?)`."""

    file: str
    line: int
    column: int
    path: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        note = "warning: " if self.severity == "warning" else ""
        return f"{where}{note}{self.path}: {self.message}" if self.path else f"{where}{note}{self.message}"


class BookErrors(CampaignError):  # noqa: N818  # it carries several
    """The files cannot be used; `problems` holds everything that is wrong with them, in order of file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = in_order(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems by file, line and column, each once."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda p: (p.file, p.line, p.column, p.path, p.message)))


def show_path(location: Sequence[str | int]) -> str:
    """A location as one reads it: `arms.double-points.steps[1].channel`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
