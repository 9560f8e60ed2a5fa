"""Money per customer with extreme values capped, beside the plain results: one cap for all arms, set beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from experiments.compare import compare_all
from experiments.compare_waves import compare_waves
from experiments.winsorising import SparseRows, sparse_cap
from flows.steps.collect_outcomes import add_moments

if TYPE_CHECKING:
    from experiments.aggregates import Moments
    from experiments.design import Design
    from flows.steps.collect_outcomes import Collected

MONEY: Final = ("revenue", "margin")


def describe_capped(design: Design, collected: Collected) -> dict[str, Any] | None:
    """The design's metrics of money, values above the pooled quantile `design.winsorise` counting as that quantile.

    None where the design measures no money or nothing is mature. A result here decides nothing: it shows how much of
    the plain one hangs on a few orders. Negative values (refunds) are left as they are.
    """
    names = [name for name in design.all_metrics() if name in MONEY]
    waves = [wave.money for wave in collected.mature_waves if wave.money]
    if not names or not waves:
        return None
    everybody = [part for money in waves for parts in money.values() for part in parts]
    found = {name: sparse_cap(everybody, name, design.winsorise) for name in names}
    caps = {name: cap for name, cap in found.items() if cap is not None}
    only = replace(design, primary=names[0], metrics=tuple(names[1:]), guardrails=())
    strata = {str(number): _capped(money, caps) for number, money in enumerate(waves)}
    if design.allocation == "fixed":
        results = compare_all(only, add_moments(strata.values()))
    else:
        results = compare_waves(only, strata)
    return {
        "quantile": design.winsorise,
        "caps": caps,
        "customers": {name: _above(everybody, name, cap) for name, cap in caps.items()},
        "results": [result.to_json() for result in results],
    }


def _capped(money: Mapping[str, tuple[SparseRows, ...]], caps: Mapping[str, float]) -> dict[str, Moments]:
    return add_moments({arm: part.capped(caps)} for arm, parts in money.items() for part in parts)


def _above(parts: list[SparseRows], name: str, cap: float) -> int:
    """How many customers were capped."""
    return sum(int((part.column(name) > cap).sum()) for part in parts)
