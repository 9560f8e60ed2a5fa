"""Carries out a plan: assignments and messages go into the ledger, once for each as-of instant."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from campaigns.errors import CampaignError
from campaigns.exit_conditions import conditions_of_step, write_conditions
from flows.steps.approve_launch import Clearance, clear_launch
from flows.steps.ledger_standing import begin_epoch, layer_of
from flows.steps.offer_codes import open_offers, refuse_low_stock, with_codes
from flows.steps.plan_campaign import PLAN_FORMAT, PlannedCampaign, content_hash, plan_campaign
from flows.steps.programme import note_holdout
from flows.steps.select_audience import note_first_look
from warehouse.ledger.waves import Wave, WaveBatch, find_wave, record_wave, wave_batches

if TYPE_CHECKING:
    import pandas as pd

    from flows.wiring import Workspace


SCHEDULE: Final = "schedule"
"""Who asks for a launch that nobody started by hand."""
_FREE: Final = Clearance("free")


@dataclass(frozen=True, slots=True)
class Applied:
    """What a run recorded. `already_applied`: it had been carried out before, and nothing changed."""

    campaign: str
    experiment: str
    as_of: datetime
    audience: int
    eligible: int
    skipped: dict[str, int]
    assigned: dict[str, int]
    messages: int
    already_applied: bool
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """Said of the plan when it was made; nothing of it is recorded."""
    launch: Clearance = field(default=_FREE, compare=False)
    """Whether a second person had to approve; where that is still open, or was refused, nothing was recorded."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "campaign": self.campaign,
            "experiment": self.experiment,
            "as_of": self.as_of.isoformat(),
            "audience": self.audience,
            "eligible": self.eligible,
            "skipped": self.skipped,
            "assigned": self.assigned,
            "messages": self.messages,
            "already_applied": self.already_applied,
            "warnings": list(self.warnings),
            "launch": {"state": self.launch.state, "reasons": list(self.launch.reasons)},
        }


def apply_plan_file(
    ws: Workspace,
    path: Path,
    *,
    now: datetime,
    by: str = SCHEDULE,
    progress: Callable[[int, int], None] | None = None,
) -> Applied:
    """Plan again as of the instant in plan.json and carry it out, unless the world has moved too far since.

    Raises CampaignError where the file is no plan, where the campaign's files changed, or where more of the audience
    moved than `measurement.drift` allows; nothing is recorded then.
    """
    stored = read_plan(path)
    as_of = datetime.fromisoformat(stored["as_of"])
    done = find_applied(ws, stored["campaign"], as_of)
    if done is not None:
        return done
    planned = plan_campaign(ws, stored["campaign"], as_of=as_of)
    refuse_stale(ws, path, stored, planned)
    return apply_plan(ws, planned, now=now, by=by, progress=progress)


def apply_plan(
    ws: Workspace,
    planned: PlannedCampaign,
    *,
    now: datetime,
    by: str = SCHEDULE,
    progress: Callable[[int, int], None] | None = None,
) -> Applied:
    """Record the plan's assignments and messages, one transaction a batch; a killed run is resumed by the next.

    Where nobody may take part nothing is recorded: no experiment begins for nobody. Where the launch needs a second
    person's approval it is asked for in the name of `by`, and nothing is recorded before it is given.
    Raises CampaignError where the campaign is paused or archived.
    """
    campaign = planned.file.campaign
    if campaign.status in ("paused", "archived"):
        raise CampaignError(
            f"{planned.file.path}: {campaign.name} is {campaign.status}; nothing was recorded; "
            "set status: active to run it"
        )
    summary = planned.summary
    note_first_look(ws, planned.file, as_of=planned.as_of)
    if not planned.plan.eligible and not _has_begun(ws, planned):
        return _applied(planned, assigned={}, messages=0)
    refuse_low_stock(ws, planned)
    launch = clear_launch(ws, planned, by=by, now=now)
    if not launch.is_clear:
        return _applied(planned, assigned={}, messages=0, launch=launch)
    note_holdout(ws, at=planned.as_of)
    begin_epoch(ws, planned.epoch, planned.design, now=now, topic=campaign.topic)
    wave = Wave(
        experiment_id=planned.epoch.experiment_id,
        as_of=planned.as_of,
        assigned_at=planned.as_of,
        plan_hash=planned.plan_hash,
        config_hash=summary["hashes"]["config"],
        facts_fingerprint=summary["hashes"]["facts"],
        tzdata=summary["tzdata"],
        planned={arm: counts["planned"] for arm, counts in summary["arms"].items()},
        skipped=summary["skipped"],
        weights=dict(planned.allocation.weights),
        layer=layer_of(ws, campaign),
    )
    recorded = record_wave(ws.ledger, wave, _batches(ws, planned, progress), opening=open_offers(planned))
    return _applied(planned, assigned=recorded.assigned, messages=sum(recorded.messages.values()), launch=launch)


def find_applied(ws: Workspace, campaign: str, as_of: datetime) -> Applied | None:
    """What an earlier run of the campaign recorded as of this very instant, or None."""
    from warehouse.ledger.experiments import experiments

    with ws.ledger.read() as tx:
        for row in reversed(experiments(tx, campaign)):
            wave = find_wave(tx, row.experiment_id, as_of)
            if wave is not None and wave.recorded is not None:
                eligible = sum(wave.planned.values())
                return Applied(
                    campaign=campaign,
                    experiment=row.experiment_id,
                    as_of=as_of,
                    audience=eligible + sum(wave.skipped.values()),
                    eligible=eligible,
                    skipped=dict(wave.skipped),
                    assigned={arm: wave.recorded["assigned"].get(arm, 0) for arm in dict(row.design["weights"])},
                    messages=sum(wave.recorded["messages"].values()),
                    already_applied=True,
                )
    return None


def read_plan(path: Path) -> dict[str, Any]:
    """A plan.json as written by `retain plan`. Raises CampaignError for a file that is none."""
    hint = "make one with `retain plan CAMPAIGN`"
    if not path.is_file():
        raise CampaignError(f"{path}: no such file; expected a plan.json; {hint}")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise CampaignError(f"{path}: not a plan (it is no JSON); {hint}") from None
    if not isinstance(stored, dict) or stored.get("format") != PLAN_FORMAT:
        raise CampaignError(f"{path}: not a plan of this version; {hint}")
    if stored["hashes"].get("content") != content_hash(stored):
        raise CampaignError(f"{path}: was changed after it was made; {hint}")
    return stored


def refuse_stale(ws: Workspace, path: Path, stored: dict[str, Any], planned: PlannedCampaign) -> None:
    """Raise CampaignError where the plan on file is no longer what would be carried out."""
    again = f"; make a new plan: retain plan {stored['campaign']} --as-of {stored['as_of']}"
    if stored["hashes"]["config"] != planned.summary["hashes"]["config"]:
        raise CampaignError(f"{path}: stale: the campaign, an offer, a segment or a template changed since{again}")
    if stored["experiment"] != planned.summary["experiment"]:
        raise CampaignError(
            f"{path}: stale: it was made for experiment {stored['experiment']}, "
            f"now {planned.summary['experiment']} runs{again}"
        )
    if stored["hashes"]["assignments"] == planned.summary["hashes"]["assignments"]:
        return
    moved = _moved_share(path.parent / "assignments.csv", planned.plan.assignments)
    allowed = ws.settings.measurement.drift
    if moved is None or moved > allowed:
        share = "an unknown share" if moved is None else f"{moved:.1%}"
        raise CampaignError(
            f"{path}: stale: {share} of the planned audience moved since, "
            f"more than measurement.drift allows ({allowed:.1%}){again}"
        )


def _has_begun(ws: Workspace, planned: PlannedCampaign) -> bool:
    """Whether a run as of the same instant was killed: it must be resumed, or refused where the audience moved."""
    with ws.ledger.read() as tx:
        return find_wave(tx, planned.epoch.experiment_id, planned.as_of) is not None


def _applied(
    planned: PlannedCampaign, *, assigned: Mapping[str, int], messages: int, launch: Clearance = _FREE
) -> Applied:
    summary = planned.summary
    return Applied(
        campaign=summary["campaign"],
        experiment=planned.epoch.experiment_id,
        as_of=planned.as_of,
        audience=summary["audience"],
        eligible=summary["eligible"],
        skipped=dict(summary["skipped"]),
        assigned={arm: assigned.get(arm, 0) for arm in summary["arms"]},
        messages=messages,
        already_applied=False,
        warnings=tuple(summary["warnings"]),
        launch=launch,
    )


def _moved_share(path: Path, now: pd.DataFrame) -> float | None:
    """How much of the planned audience came, went or changed arm since (share of the plan); None without its file."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        then = {(row["customer_id"], row["arm"]) for row in csv.DictReader(file)}
    moved = then.symmetric_difference(zip(now["customer_id"], now["arm"], strict=True))
    return len({customer for customer, _ in moved}) / max(len(then), 1)


def _batches(
    ws: Workspace, planned: PlannedCampaign, progress: Callable[[int, int], None] | None
) -> Iterator[WaveBatch]:
    messages = with_codes(ws, planned).assign(
        unless=np.asarray(_exits(planned), dtype=object),
        fallback=np.asarray(_fallbacks(planned), dtype=object),
        cost_micros=np.asarray(_costs(ws, planned), dtype=np.int64),
    )
    total, done = len(planned.plan.assignments), 0
    for batch in wave_batches(planned.plan.assignments, messages, planned.plan.withheld):
        yield batch
        done += len(batch.assignments)
        if progress is not None:
            progress(done, total)


def _exits(planned: PlannedCampaign) -> list[str | None]:
    arms = planned.file.campaign.arms
    conditions = {
        (name, number): write_conditions(conditions_of_step(step))
        for name, arm in arms.items()
        for number, step in enumerate(arm.steps, start=1)
    }
    messages = planned.plan.messages
    return [conditions[key] for key in zip(messages["arm"], messages["step"], strict=True)]


def _fallbacks(planned: PlannedCampaign) -> list[str]:
    """The channels each message may still fall back to: those that its step names after its own, joined by commas."""
    left = {
        (name, number, channel): ",".join(step.channels[place:])
        for name, arm in planned.file.campaign.arms.items()
        for number, step in enumerate(arm.steps, start=1)
        for place, channel in enumerate(step.channels, start=1)
    }
    messages = planned.plan.messages
    return [left[key] for key in zip(messages["arm"], messages["step"], messages["channel"], strict=True)]


def _costs(ws: Workspace, planned: PlannedCampaign) -> list[int]:
    prices = ws.settings.prices
    micros = {name: round(getattr(prices, name).amount * 1_000_000) for name in ("sms", "email", "push")}
    return [micros[channel] for channel in planned.plan.messages["channel"]]
