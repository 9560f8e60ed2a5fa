"""Maths: design, assignment, comparison, decision.

`from experiments import analyze` is the notebook's entry (`Look` and `Prior` are two of its arguments); it is imported
on first use, so that importing the room costs neither scipy nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.analysis import Analysis, analyze
    from experiments.views import Look, Prior

__all__ = ["Analysis", "Look", "Prior", "analyze"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("Look", "Prior"):
        from experiments import views

        return getattr(views, name)
    from experiments import analysis

    return getattr(analysis, name)


def __dir__() -> list[str]:
    return sorted(__all__)
