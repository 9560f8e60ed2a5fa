"""Measures an experiment: outcomes of everybody assigned and mature, compared with control. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from experiments.design import Design
from experiments.errors import ExperimentError
from experiments.results import Result
from flows.steps.bayesian_view import describe_posteriors, wants_bayesian
from flows.steps.capped_effects import describe_capped
from flows.steps.collect_outcomes import Collected, collect_outcomes
from flows.steps.compare_outcomes import compare_net_margin, compare_outcomes, describe_strata
from flows.steps.effect_views import describe_waves, effects_on_reached, stratify_by_wave
from flows.steps.experiment_health import examine_health
from flows.steps.fact_lateness import describe_lateness, observed_lateness
from flows.steps.known_campaign import require_campaign
from flows.steps.past_effects import Prior, find_prior
from flows.steps.redeemed_offers import charge_margin, collect_redeemed
from flows.steps.repurchase_times import describe_times, with_times
from flows.steps.segment_effects import describe_segments
from warehouse.facts.outcomes import OUTCOMES
from warehouse.ledger.experiments import ExperimentRow, current_experiment, experiments
from warehouse.ledger.results import record_measurement
from warehouse.ledger.tallies import ArmTally

if TYPE_CHECKING:
    from flows.wiring import Workspace


@dataclass(frozen=True)
class Measurement:
    """One measurement of one experiment as of an instant."""

    design: Design
    as_of: datetime
    collected: Collected
    results: tuple[Result, ...]
    margin: tuple[Result, ...] | None
    """Margin less the cost of messages and offers; None where orders carry no margin."""
    health: Mapping[str, float | None]
    views: Mapping[str, Any]
    """Other readings, shown and never decided upon: survival, waves, stratified, strata, winsorised, cace, segments,
    bayesian, circumstances, redemptions."""
    prior: Prior | None = None
    matures_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """The measurement as `retain measure --json` prints it."""
        arms = [name for name, _ in self.design.weights]
        return {
            **self.views,
            "campaign": self.design.campaign,
            "experiment": self.design.experiment_id,
            "as_of": self.as_of.isoformat(),
            "hypothesis": self.design.hypothesis,
            "primary": self.design.primary,
            "arms": {
                arm: {
                    "assigned": self.collected.assigned.get(arm, 0),
                    "mature": self.collected.mature.get(arm, 0),
                    **({"households": self.collected.units.get(arm, 0)} if self.design.unit == "household" else {}),
                    "reached": self.collected.running.get(arm, ArmTally()).reached,
                }
                for arm in arms
            },
            "matures_at": None if self.matures_at is None else self.matures_at.isoformat(),
            "health": dict(self.health),
            "prior": None if self.prior is None else self.prior.to_json(),
            "results": [result.to_json() for result in self.results],
            "totals": _totals(self.collected),
            "margin": None if self.margin is None else [result.to_json() for result in self.margin],
        }


def _totals(collected: Collected) -> dict[str, dict[str, float]]:
    """Plain sums over the mature customers of each arm, before any adjustment: metric -> arm -> sum."""
    return {
        column: {arm: moments.sum(column) for arm, moments in sorted(collected.outcomes.items())} for column in OUTCOMES
    }


def measurable_campaigns(ws: Workspace) -> list[str]:
    """The campaigns with an experiment that still runs and whose file is still there."""
    with ws.ledger.read() as tx:
        return [
            row.campaign
            for row in experiments(tx)
            if row.status == "running" and row.campaign in ws.usable_book[0].campaigns
        ]


def measure_experiment(ws: Workspace, campaign: str, *, now: datetime) -> Measurement:
    """Measure the campaign's running (else its latest) experiment as of `now`, and record the measurement.

    Intention to treat: everybody assigned counts, whether or not a message arrived. Only assignments whose horizon and
    lateness have passed are compared. Raises ExperimentError where the campaign has no experiment yet.
    """
    row = find_experiment(ws, campaign)
    design = Design.from_json(row.design)
    observed = observed_lateness(ws, design)
    collected = collect_outcomes(ws, design, now=now)
    times = describe_times(design, collected) if design.unit == "customer" else None
    results = with_times(compare_outcomes(design, collected), times)
    redeemed = collect_redeemed(ws, design, collected)
    charged = {wave.wave.wave_id: charge_margin(ws, design, wave, redeemed) for wave in collected.mature_waves}
    health = examine_health(ws, design, collected, now=now)
    prior = find_prior(ws, design, results, now=now)
    posteriors = (
        describe_posteriors(design, collected, results, prior)
        if wants_bayesian(ws, campaign) and design.unit == "customer"
        else []
    )
    views = {"survival": times, **_views(ws, design, collected)}
    circumstances = health.circumstances | {"lateness": describe_lateness(design, observed)}
    views |= {"bayesian": posteriors, "circumstances": circumstances}
    views |= {"redemptions": redeemed.to_json()}
    measurement = Measurement(
        design=design,
        as_of=now,
        collected=collected,
        results=tuple(results),
        margin=compare_net_margin(design, collected, charged),
        health=dict(health.numbers) | {"code_leaks": redeemed.leaked_share},
        views=views,
        prior=prior,
        matures_at=_matures_at(design, collected),
    )
    with ws.ledger.begin() as tx:
        record_measurement(tx, row.experiment_id, measurement.to_json(), measured_at=now)
    return measurement


def find_experiment(ws: Workspace, campaign: str) -> ExperimentRow:
    """The campaign's running experiment, else its latest.

    Raises ExperimentError where there is none, CampaignError for a campaign that the book does not know either.
    """
    with ws.ledger.read() as tx:
        row = current_experiment(tx, campaign)
        known = experiments(tx, campaign)
    if row is not None:
        return row
    if not known:
        require_campaign(ws, campaign)
        raise ExperimentError(
            f"{campaign}: nothing to measure: no run was applied yet; start with `retain plan {campaign}`"
        )
    return known[-1]


def _views(ws: Workspace, design: Design, collected: Collected) -> dict[str, Any]:
    if design.unit == "household":  # these readings take customers for strangers to each other
        return {
            "survival": None,
            "waves": describe_waves(collected),
            "stratified": [],
            "strata": None,
            "winsorised": None,
            "cace": [],
            "segments": [],
        }
    return {
        "waves": describe_waves(collected),
        "stratified": stratify_by_wave(design, collected),
        "strata": describe_strata(design, collected),
        "winsorised": describe_capped(design, collected),
        "cace": effects_on_reached(design, collected),
        "segments": describe_segments(ws, design, collected),
    }


def _matures_at(design: Design, collected: Collected) -> datetime | None:
    """When the last of the runs so far will be mature."""
    if not collected.waves:
        return None
    last = max(wave.wave.assigned_at for wave in collected.waves)
    return last + timedelta(days=design.horizon_days + design.lateness_days)
