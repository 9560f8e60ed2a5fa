"""A plan: who takes part, in which arm, and which message may leave when. Pure: nothing is read or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from campaigns.eligibility import HoldoutRule, Reach, Standing, screen
from campaigns.send_times import SendTime, StepTiming, Zones, plan_send_times, resolve_zones
from campaigns.timing import Window
from experiments.assign import draw_arms, fractions

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StepRule:
    """One step of an arm: the channels that would do, in order of preference, and its timing."""

    channels: tuple[str, ...]
    template: str
    timing: StepTiming


@dataclass(frozen=True, slots=True)
class ArmRule:
    """One arm that sends: its share of the draw, its steps, and what one customer of it may cost at most."""

    name: str
    share: float
    steps: tuple[StepRule, ...]
    offer: str | None = None
    offer_ends_at: datetime | None = None
    discount_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use up: customers, messages, message cost and discounts (None: no limit)."""

    customers: int | None = None
    messages: int | None = None
    cost: float | None = None
    discounts: float | None = None


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What decides a plan besides the candidates: the draw, the arms, the limits, the company's policy."""

    as_of: datetime
    salt: str
    arms: tuple[ArmRule, ...]
    control_share: float
    holdout: HoldoutRule
    limits: Limits = Limits()
    default_zone: str | None = None
    quiet: Window | None = None
    prices: Mapping[str, float] | None = None
    """Expected price of one message, by channel."""
    allow_open_complaint: bool = False

    @property
    def weights(self) -> tuple[tuple[str, float], ...]:
        """The draw's cumulative order: the arms as the file has them, control last."""
        return (*((arm.name, arm.share) for arm in self.arms), ("control", self.control_share))


@dataclass(frozen=True, slots=True)
class Plan:
    """Who takes part, in which arm, with which messages; sorted by customer (and step)."""

    audience: int
    skipped: Mapping[str, int]
    reasons: pd.DataFrame
    """customer_id, reason: everyone of the audience who does not take part."""
    assignments: pd.DataFrame
    """customer_id, arm."""
    messages: pd.DataFrame
    """customer_id, arm, step, channel, template, offer, zones, not_before, closes_at, expires_at."""
    zone_sources: Mapping[str, int]
    message_cost: float
    discount_liability: float

    @property
    def eligible(self) -> int:
        """How many customers take part (control included)."""
        return len(self.assignments)


def make_plan(candidates: pd.DataFrame, standing: Standing, rules: PlanRules) -> Plan:
    """Screen the candidates, draw the arms and lay out the messages.

    `candidates` has the columns of `select_segment` and is sorted by customer_id. The same input gives the same plan.
    """
    reach = Reach(candidates, standing)
    zones = resolve_zones(candidates, default=rules.default_zone)
    times = {arm.name: _times_by_level(arm, zones, rules) for arm in rules.arms}
    reasons = screen(
        candidates,
        needs=sorted({step.channels for arm in rules.arms for step in arm.steps}),
        reach=reach,
        standing=standing,
        holdout=rules.holdout,
        allow_open_complaint=rules.allow_open_complaint,
    )
    sendable = np.array(
        [all(t[level] is not None for t in times.values()) for level in range(len(zones.levels))] or [True]
    )
    reasons[(reasons == "") & ~sendable[zones.codes]] = "no_send_time"
    ids = candidates["customer_id"].to_numpy(dtype=object)
    open_rows = np.flatnonzero(reasons == "")
    arms = np.asarray(draw_arms(ids[open_rows].tolist(), salt=rules.salt, weights=rules.weights), dtype=object)
    _apply_limits(reasons, open_rows, ids, arms, rules)
    kept = reasons[open_rows] == ""
    rows, arms = open_rows[kept], arms[kept]
    messages = _lay_out_messages(ids, rows, arms, times=times, zones=zones, reach=reach, rules=rules)
    return Plan(
        audience=len(candidates),
        skipped=_count(reasons),
        reasons=pd.DataFrame({"customer_id": ids[reasons != ""], "reason": reasons[reasons != ""]}),
        assignments=pd.DataFrame({"customer_id": ids[rows], "arm": arms}),
        messages=messages,
        zone_sources=zones.sources,
        message_cost=float(messages["channel"].map(dict(rules.prices or {})).fillna(0.0).sum()),
        discount_liability=float(sum(arm.discount_cost * int((arms == arm.name).sum()) for arm in rules.arms)),
    )


def _times_by_level(arm: ArmRule, zones: Zones, rules: PlanRules) -> list[tuple[SendTime, ...] | None]:
    steps = [step.timing for step in arm.steps]
    return [
        plan_send_times(steps, level, as_of=rules.as_of, quiet=rules.quiet, offer_ends_at=arm.offer_ends_at)
        for level in zones.levels
    ]


def _apply_limits(
    reasons: NDArray[np.object_],
    rows: NDArray[np.intp],
    ids: NDArray[np.object_],
    arms: NDArray[np.object_],
    rules: PlanRules,
) -> None:
    """Mark those beyond the limits, in the order of a hash of their own: no list order is favoured."""
    limits = rules.limits
    order = np.argsort(fractions(f"{rules.salt}.limit", ids[rows].tolist()), kind="stable")
    if limits.customers is not None:
        reasons[rows[order[limits.customers :]]] = "over_limit"
        order = order[: limits.customers]
    prices = rules.prices or {}
    uses: list[tuple[float | None, dict[str, float]]] = [
        (limits.messages, {arm.name: float(len(arm.steps)) for arm in rules.arms}),
        (limits.cost, {arm.name: sum(_dearest(step, prices) for step in arm.steps) for arm in rules.arms}),
        (limits.discounts, {arm.name: arm.discount_cost for arm in rules.arms}),
    ]
    for limit, use in uses:
        if limit is None:
            continue
        spent = np.cumsum([use.get(str(arm), 0.0) for arm in arms[order]])
        fits = int(np.searchsorted(spent, limit * (1 + 1e-12), side="right"))
        reasons[rows[order[fits:]]] = "over_budget"
        order = order[:fits]


def _dearest(step: StepRule, prices: Mapping[str, float]) -> float:
    return max(prices.get(channel, 0.0) for channel in step.channels)


def _lay_out_messages(
    ids: NDArray[np.object_],
    rows: NDArray[np.intp],
    arms: NDArray[np.object_],
    *,
    times: Mapping[str, Sequence[tuple[SendTime, ...] | None]],
    zones: Zones,
    reach: Reach,
    rules: PlanRules,
) -> pd.DataFrame:
    parts = [_empty_messages()]
    names = np.array([",".join(level) for level in zones.levels], dtype=object)
    for arm in rules.arms:
        members = rows[arms == arm.name]
        levels = zones.codes[members]
        for number, step in enumerate(arm.steps, start=1):
            moments = [moment[number - 1] if moment else None for moment in times[arm.name]]
            part: dict[str, object] = {
                "customer_id": ids[members],
                "arm": arm.name,
                "step": number,
                "channel": reach.first_open(step.channels, members),
                "template": step.template,
                "offer": arm.offer,
                "zones": names[levels],
            }
            for column in ("not_before", "closes_at", "expires_at"):
                instants = [pd.NaT if m is None else pd.Timestamp(getattr(m, column)) for m in moments]
                part[column] = pd.Series(instants, dtype="datetime64[us, UTC]").array[levels]
            parts.append(pd.DataFrame(part))
    frame = pd.concat(parts, ignore_index=True).astype({"step": "int64"})
    return frame.sort_values(["customer_id", "step"], kind="stable", ignore_index=True)


def _empty_messages() -> pd.DataFrame:
    texts = ("customer_id", "arm", "channel", "template", "offer", "zones")
    frame = pd.DataFrame({name: pd.Series(dtype=object) for name in texts})
    for name in ("not_before", "closes_at", "expires_at"):
        frame[name] = pd.Series(dtype="datetime64[us, UTC]")
    frame.insert(2, "step", pd.Series(dtype="int64"))
    return frame


def _count(reasons: NDArray[np.object_]) -> dict[str, int]:
    codes, counts = np.unique(reasons[reasons != ""].astype(str), return_counts=True)
    return {str(code): int(count) for code, count in zip(codes, counts, strict=True)}
