"""The work one rendering may do: steps and characters, spent as the template runs and refused when they are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

MAX_STEPS: Final = 20_000
"""Loop rounds, calls, filters and printed values of one rendering; a large real e-mail needs a few hundred."""
MAX_CHARACTERS: Final = 2_000_000
"""Characters handled by one rendering, intermediate values included."""
PER_ITEM: Final = 10
"""Characters that looking at one item of a list is charged as."""
MAX_RANGE: Final = 1_000
"""Rounds that `range()` gives at most."""


class WorkLimitError(Exception):
    """A template asked for more work than a message is worth."""


@dataclass(slots=True)
class Budget:
    """What is left of a rendering's allowance."""

    steps: int = MAX_STEPS
    characters: int = MAX_CHARACTERS

    def spend(self, characters: int = 0) -> None:
        """Take one step and `characters` from the allowance; raises WorkLimitError when either is gone."""
        self.steps -= 1
        self.characters -= max(characters, 0)  # a template can call the charge itself, but earns nothing by it
        if self.steps < 0:
            raise WorkLimitError(f"the template does more than {MAX_STEPS:,} steps (loops inside loops?)")
        if self.characters < 0:
            raise WorkLimitError(
                f"the template handles more than {MAX_CHARACTERS:,} characters (a text that keeps growing?)"
            )


_current: ContextVar[Budget] = ContextVar("retain_render_budget")


@contextmanager
def budgeted() -> Iterator[None]:
    """Give the enclosed rendering a fresh allowance."""
    token = _current.set(Budget())
    try:
        yield
    finally:
        _current.reset(token)


def spend(characters: int = 0) -> None:
    """Charge the running rendering one step and `characters`."""
    _current.get().spend(characters)


def spend_on(*values: object) -> None:
    """Charge the running rendering one step and what reading the values through costs: texts, and items of lists."""
    spend(sum(map(_weight, values)))


def _weight(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, range):
        return PER_ITEM * len(value)
    if isinstance(value, (list, tuple, dict)):
        items = value.values() if isinstance(value, dict) else value
        return PER_ITEM * len(value) + sum(len(item) for item in items if isinstance(item, str))
    return 0


def spend_for(value: object) -> None:
    """Charge the running rendering one step and the length of a sized value."""
    spend(len(value) if isinstance(value, Sized) else 0)
