"""Maths: design, assignment, comparison, decision.

`from experiments import analyze` is the notebook's entry; it is imported on first use, so that importing the room costs
neither scipy nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.analysis import Analysis, analyze

__all__ = ["Analysis", "analyze"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from experiments import analysis

    return getattr(analysis, name)


def __dir__() -> list[str]:
    return sorted(__all__)
