"""Replays a campaign's design on the company's own past, with planted effects: how often is the rule right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from campaigns.schedule import runs_between
from experiments.assign import fractions
from experiments.design import Design
from experiments.errors import ExperimentError
from experiments.metrics import METRICS
from experiments.simulate import History, Simulated, simulate, standard_effects
from flows.steps.collect_outcomes import PRE_PERIOD
from flows.steps.expected_power import LEAST_HISTORY
from flows.steps.ledger_standing import find_epoch
from flows.steps.past_effects import prior_at
from flows.steps.plan_campaign import stamp_of
from flows.steps.planning_rules import freeze_design
from flows.steps.power_forecast import ledger_rates
from flows.steps.select_audience import audience_between
from warehouse.facts.outcomes import outcome_rows

if TYPE_CHECKING:
    from campaigns.book import CampaignFile
    from flows.wiring import Workspace

MOST_WAVES: Final = 8
"""Past runs that are replayed at most; with more in the past they are taken evenly spaced."""
LOOKED_BACK: Final = timedelta(days=182)
"""How far back the first of them may lie, before the horizon and the lateness of the last."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the rule did in every scenario, from which history, and where it is stored."""

    design: Design
    as_of: datetime
    seed: int
    waves: tuple[tuple[datetime, int], ...]
    results: tuple[Simulated, ...]
    path: Path

    def to_json(self) -> dict[str, Any]:
        """What `retain simulate --json` prints and the stored file holds."""
        return {
            "campaign": self.design.campaign,
            "as_of": self.as_of.isoformat(),
            "seed": self.seed,
            "design_hash": self.design.content_hash(),
            "customers": sum(n for _, n in self.waves),
            "waves": [{"as_of": at.isoformat(), "customers": n} for at, n in self.waves],
            "scenarios": [
                {
                    **result.to_json(),
                    "decision_on": None
                    if result.decision_day is None
                    else (self.as_of + timedelta(days=result.decision_day)).date().isoformat(),
                }
                for result in self.results
            ],
        }


def simulate_campaign(
    ws: Workspace,
    name: str,
    *,
    as_of: datetime,
    runs: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Simulation:
    """Replay the campaign's design `runs` times each without an effect, with the minimum effect, and with harm.

    The customers are those whom past runs would have met; their real outcomes are what control would have done. The
    same data, campaign and seed give the same numbers; they are stored under .retain/simulations. `progress` is told
    scenario, finished runs and runs. Raises ExperimentError where the past holds too few customers.
    """
    file = ws.campaign(name)
    frozen = freeze_design(file, ws.settings, epoch=find_epoch(ws, file).number)
    design = replace(frozen, weights=tuple((arm, weight) for arm, weight in frozen.weights if weight > 0.0))
    history, waves = _history(ws, file, design, as_of)
    base = float(history.columns[METRICS[design.primary].column].mean())
    prior = prior_at(ws, design, base, now=as_of)
    results = [
        simulate(
            design,
            history,
            planted=planted,
            seed=seed,
            runs=runs,
            prior_sd=None if prior is None else prior.sd,
            progress=None if progress is None else partial(_tell, progress, planted.name, runs),
        )
        for planted in standard_effects(design, history)
    ]
    digest = hashlib.sha256(f"{design.content_hash()} {runs} {seed}".encode()).hexdigest()[:8]
    path = ws.root / ".retain" / "simulations" / f"{name}-{stamp_of(as_of)}-{digest}.json"
    simulation = Simulation(design, as_of, seed, waves, tuple(results), path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(simulation.to_json(), ensure_ascii=False, sort_keys=True, allow_nan=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    return simulation


def _tell(progress: Callable[[str, int, int], None], scenario: str, runs: int, finished: int) -> None:
    progress(scenario, finished, runs)


def _history(
    ws: Workspace, file: CampaignFile, design: Design, as_of: datetime
) -> tuple[History, tuple[tuple[datetime, int], ...]]:
    """The customers of past runs, each in the first that would have met them, with what they did in the horizon."""
    import numpy as np

    horizon = timedelta(days=design.horizon_days)
    met: set[str] = set()
    waves, parts, days = [], [], []
    instants = _past_runs(file, design, as_of)
    for at in instants:
        chosen = _choose(ws, file, design, at, met)
        met.update(chosen)
        if not chosen:
            continue
        waves.append((at, len(chosen)))
        parts.append(outcome_rows(ws.facts, chosen, start=at, horizon=horizon, pre_period=PRE_PERIOD))
        days.append(np.full(len(chosen), (at - instants[0]).total_seconds() / 86_400))
    if len(met) < max(LEAST_HISTORY, 2 * len(design.weights)):
        raise ExperimentError(
            f"{file.campaign.name}: past runs would have met {len(met)} customers, a simulation needs {LEAST_HISTORY}; "
            "load more of the past, or widen the segment"
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rates = ledger_rates(ws, design)
    guarded = {guard.metric for guard in design.guardrails}
    known = {metric: rate for metric, rate in rates.items() if metric in guarded}
    return History(columns, np.concatenate(days), known), tuple(waves)


def _past_runs(file: CampaignFile, design: Design, as_of: datetime) -> list[datetime]:
    """The runs that the schedule would have made, the last of them mature by now; without a schedule one run."""
    last = as_of - timedelta(days=design.horizon_days + design.lateness_days)
    schedule = file.campaign.schedule
    if schedule is None:
        return [last]
    runs = runs_between(schedule.cron, schedule.timezone, start=last - LOOKED_BACK, end=last) or [last]
    if len(runs) <= MOST_WAVES:
        return runs
    step = (len(runs) - 1) / (MOST_WAVES - 1)
    return [runs[round(k * step)] for k in range(MOST_WAVES)]


def _choose(ws: Workspace, file: CampaignFile, design: Design, at: datetime, met: set[str]) -> list[str]:
    """Those of the audience at an instant whom no earlier run met, at most as many as the limit, drawn by hash."""
    frame = audience_between(ws, file, start=at - timedelta(days=design.horizon_days), end=at)
    ids = [customer for customer in frame["customer_id"].tolist() if customer not in met]
    limit = file.campaign.audience.limit
    if limit is None or len(ids) <= limit:
        return ids
    places = fractions(f"{design.salt}.limit", ids)
    return [ids[k] for k in sorted(places.argsort(kind="stable")[:limit])]
