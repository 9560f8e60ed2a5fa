"""A plan: who takes part, in which arm, and which message may leave when. Pure: nothing is read or written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from campaigns.arm_times import ArmTimes, Members, arm_times, place_messages
from campaigns.best_hours import hours_at
from campaigns.draw import RETURNING, draw, households_of, units_of, withheld_arms
from campaigns.eligibility import HoldoutRule, Reach, Standing, screen
from campaigns.send_times import SendLimits, StepTiming
from campaigns.shared_addresses import beyond_the_first
from campaigns.tiers import TierRule
from campaigns.timing import Window
from campaigns.whereabouts import Zones, resolve_zones
from campaigns.words import CONTROL
from experiments.assign import fractions

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StepRule:
    """One message of an arm: the channels that would do, in order of preference, and its timing.

    `number` is its step's place in the file (0: its own place in the arm), `turn` the how-manieth of its step it is.
    """

    channels: tuple[str, ...]
    template: str
    timing: StepTiming
    number: int = 0
    turn: int = 1


@dataclass(frozen=True, slots=True)
class ArmRule:
    """One arm that sends: its share of the draw, its steps, and what one customer of it may cost at most."""

    name: str
    share: float
    steps: tuple[StepRule, ...]
    offer: str | None = None
    offer_ends_at: datetime | None = None
    discount_cost: float = 0.0
    tiers: TierRule | None = None
    """How its customers are told apart where its offer has tiers; `discount_cost` is then of no account."""


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
    unit: Literal["customer", "household"] = "customer"
    holdback_salt: str = "holdback"
    """Decides who stays where control becomes smaller after a promotion; the same in every epoch."""

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
    """customer_id, reason, detail ("" where the reason says all): everyone of the audience who does not take part."""
    assignments: pd.DataFrame
    """customer_id, arm, stratum ("returning" where an earlier epoch's draw counted), unit (of a household)."""
    messages: pd.DataFrame
    """customer_id, arm, step, turn, channel, template, offer, zones, place, not_before, closes_at, expires_at."""
    withheld: pd.DataFrame
    """customer_id, step, channel, zones, at: what control would be sent, were it no control; it counts against caps."""
    zone_sources: Mapping[str, int]
    message_cost: float
    fallback_cost: float
    """What sending would cost beside that if no message but the last of every step's channels arrived."""
    discount_liability: float
    promised: pd.DataFrame
    """arm, offer (NAME, or NAME/TIER), customers, cost: what is promised, and what it is expected to cost."""

    @property
    def eligible(self) -> int:
        """How many customers take part (control included)."""
        return len(self.assignments)


def make_plan(candidates: pd.DataFrame, standing: Standing, rules: PlanRules) -> Plan:
    """Screen the candidates, draw the arms and lay out the messages.

    `candidates` has the columns of `select_segment`, where a trigger brings them in also triggered_at, from which their
    delays count then, and is sorted by customer_id. The same input gives the same plan.
    """
    reach = Reach(candidates, standing)
    units = units_of(candidates, rules.unit)
    zones = resolve_zones(candidates, default=rules.default_zone)
    times = {arm.name: _times_of(arm, candidates, zones, reach, rules) for arm in rules.arms}
    reasons, details = _screen(candidates, times, units, reach, standing, rules)
    ids = candidates["customer_id"].to_numpy(dtype=object)
    open_rows = np.flatnonzero(reasons == "")
    drawn = draw(
        units[open_rows],
        ids[open_rows],
        salt=rules.salt,
        weights=rules.weights,
        before=standing.before,
        holdback_salt=rules.holdback_salt,
    )
    arms = drawn.arms
    promises = _promises(candidates, open_rows, arms, rules)
    _apply_limits(reasons, open_rows, units, arms, rules, promises[1])
    kept = reasons[open_rows] == ""
    rows, arms = open_rows[kept], arms[kept]
    offers, costs = promises[0][kept], promises[1][kept]
    lay_out = partial(_lay_out_messages, _Sheet(ids, times, zones, reach, rules))
    messages = lay_out(rows, arms, offers=offers)
    return Plan(
        audience=len(candidates),
        skipped=_count(reasons),
        reasons=_left_out(ids, reasons, details),
        assignments=_assignments(ids[rows], arms, drawn.returning[kept], units[rows], rules),
        messages=messages,
        withheld=_withheld(lay_out, rows, arms, units, rules),
        zone_sources=zones.sources,
        message_cost=float(messages["channel"].map(dict(rules.prices or {})).fillna(0.0).sum()),
        fallback_cost=_fallback_cost(messages, rules),
        discount_liability=float(costs.sum()),
        promised=_count_promised(arms, offers, costs),
    )


def _screen(
    candidates: pd.DataFrame,
    times: Mapping[str, ArmTimes],
    units: NDArray[np.object_],
    reach: Reach,
    standing: Standing,
    rules: PlanRules,
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Why each candidate may not take part ("": may), whatever the lot says; and what is to be told of it beside."""
    reasons = screen(
        candidates,
        needs=sorted({step.channels for arm in rules.arms for step in arm.steps}),
        reach=reach,
        standing=standing,
        holdout=rules.holdout,
        allow_open_complaint=rules.allow_open_complaint,
        units=units,
    )
    details = np.full(len(candidates), "", dtype=object)
    for moments in times.values():
        unsendable = (reasons == "") & ~moments.sendable
        reasons[unsendable] = "no_send_time"
        details[unsendable] = moments.why_not()[unsendable]
    if standing.sharing.names:
        ids = candidates["customer_id"].to_numpy(dtype=object)
        open_rows = np.flatnonzero(reasons == "")
        reasons[open_rows[beyond_the_first(ids[open_rows].tolist(), standing.sharing)]] = "shared_address"
    return reasons, details


def _times_of(arm: ArmRule, candidates: pd.DataFrame, zones: Zones, reach: Reach, rules: PlanRules) -> ArmTimes:
    everybody = np.arange(len(candidates), dtype=np.intp)
    channels = [reach.first_open(step.channels, everybody) for step in arm.steps]
    steps = [step.timing for step in arm.steps]
    hours = hours_at(steps, channels, candidates, salt=rules.salt)
    limits = SendLimits(rules.as_of, rules.quiet, arm.offer_ends_at)
    begins = candidates.get("triggered_at")
    return arm_times(arm.name, steps, zones, list(zip(channels, hours, strict=True)), limits, begins=begins)


def _apply_limits(
    reasons: NDArray[np.object_],
    rows: NDArray[np.intp],
    units: NDArray[np.object_],
    arms: NDArray[np.object_],
    rules: PlanRules,
    discounts: NDArray[np.float64],
) -> None:
    """Mark those beyond the limits, in the order of a hash of their own: no list order is favoured.

    A household takes part as a whole or not at all.
    """
    limits = rules.limits
    order = np.argsort(fractions(f"{rules.salt}.limit", units[rows].tolist()), kind="stable")
    if limits.customers is not None:
        reasons[rows[order[limits.customers :]]] = "over_limit"
        order = order[: limits.customers]
    prices = rules.prices or {}
    uses: list[tuple[float | None, dict[str, float]]] = [
        (limits.messages, {arm.name: float(len(arm.steps)) for arm in rules.arms}),
        (limits.cost, {arm.name: sum(_dearest(step, prices) for step in arm.steps) for arm in rules.arms}),
    ]
    for limit, use in uses:
        order = _keep_within(limit, np.array([use.get(str(arm), 0.0) for arm in arms[order]]), reasons, rows, order)
    _keep_within(limits.discounts, discounts[order], reasons, rows, order)
    if rules.unit == "household":
        beyond = {units[row]: reasons[row] for row in rows if reasons[row]}
        for row in rows:
            reasons[row] = beyond.get(units[row], "")


def _keep_within(
    limit: float | None,
    uses: NDArray[np.float64],
    reasons: NDArray[np.object_],
    rows: NDArray[np.intp],
    order: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Those of `order` whose uses fit into the limit together; the others are marked."""
    if limit is None:
        return order
    fits = int(np.searchsorted(np.cumsum(uses), limit * (1 + 1e-12), side="right"))
    reasons[rows[order[fits:]]] = "over_budget"
    return order[:fits]


def _promises(
    candidates: pd.DataFrame, rows: NDArray[np.intp], arms: NDArray[np.object_], rules: PlanRules
) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """What each of the rows is promised (NAME or NAME/TIER, None for nothing), and what that is expected to cost."""
    offers, costs = np.full(len(rows), None, dtype=object), np.zeros(len(rows))
    for arm in rules.arms:
        members = np.flatnonzero(arms == arm.name)
        if arm.tiers is None:
            offers[members], costs[members] = arm.offer, arm.discount_cost
            continue
        tiers = arm.tiers.tiers_of(candidates.iloc[rows[members]])
        offers[members] = [f"{arm.offer}/{tier}" for tier in tiers]
        costs[members] = arm.tiers.costs_of(tiers)
    return offers, costs


def _count_promised(arms: NDArray[np.object_], offers: NDArray[np.object_], costs: NDArray[np.float64]) -> pd.DataFrame:
    frame = pd.DataFrame({"arm": arms, "offer": offers, "cost": costs}).dropna(subset=["offer"])
    counted = frame.groupby(["arm", "offer"], sort=True)["cost"].agg(["size", "sum"]).reset_index()
    return counted.rename(columns={"size": "customers", "sum": "cost"})


def _dearest(step: StepRule, prices: Mapping[str, float]) -> float:
    return max(prices.get(channel, 0.0) for channel in step.channels)


def _fallback_cost(messages: pd.DataFrame, rules: PlanRules) -> float:
    """What all channels that the messages have left would cost together, whether or not everybody has an address."""
    prices = rules.prices or {}
    left = {
        (arm.name, step.number or number, channel): sum(prices.get(other, 0.0) for other in step.channels[place:])
        for arm in rules.arms
        for number, step in enumerate(arm.steps, start=1)
        for place, channel in enumerate(step.channels, start=1)
    }
    counts = messages.groupby(["arm", "step", "channel"]).size().reset_index(name="n")
    return float(sum(left[arm, step, channel] * n for arm, step, channel, n in counts.itertuples(index=False)))


class _Sheet(NamedTuple):
    """What messages are laid out by, whoever gets them."""

    ids: NDArray[np.object_]
    times: Mapping[str, ArmTimes]
    zones: Zones
    reach: Reach
    rules: PlanRules


def _lay_out_messages(
    sheet: _Sheet, rows: NDArray[np.intp], arms: NDArray[np.object_], *, offers: NDArray[np.object_]
) -> pd.DataFrame:
    ids, times, zones, reach, rules = sheet
    parts = [_empty_messages()]
    names = np.array([",".join(level.zones) for level in zones.levels], dtype=object)
    places = np.array([level.place for level in zones.levels], dtype=object)
    laid = {arm.name: _members(times[arm.name], rows[arms == arm.name], ids, rules) for arm in rules.arms}
    place_messages(list(laid.values()))
    for arm in rules.arms:
        members = laid[arm.name].rows
        levels = zones.codes[members]
        for number, step in enumerate(arm.steps, start=1):
            part: dict[str, object] = {
                "customer_id": ids[members],
                "arm": arm.name,
                "step": step.number or number,
                "turn": step.turn,
                "channel": reach.first_open(step.channels, members),
                "template": step.template,
                "offer": offers[arms == arm.name],
                "zones": names[levels],
                "place": places[levels],
            }
            moments = laid[arm.name].placed[number - 1]
            for column in ("not_before", "closes_at", "expires_at"):
                part[column] = pd.to_datetime(getattr(moments, column), unit="us", utc=True).as_unit("us")
            parts.append(pd.DataFrame(part))
    frame = pd.concat(parts, ignore_index=True).astype({"step": "int64", "turn": "int64"})
    return frame.sort_values(["customer_id", "step", "turn"], kind="stable", ignore_index=True)


def _assignments(
    ids: NDArray[np.object_],
    arms: NDArray[np.object_],
    returning: NDArray[np.bool_],
    units: NDArray[np.object_],
    rules: PlanRules,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": ids,
            "arm": arms,
            "stratum": np.array([RETURNING if back else None for back in returning], dtype=object),
            "unit": households_of(units) if rules.unit == "household" else None,
        }
    )


def _withheld(
    lay_out: Callable[..., pd.DataFrame],
    rows: NDArray[np.intp],
    arms: NDArray[np.object_],
    units: NDArray[np.object_],
    rules: PlanRules,
) -> pd.DataFrame:
    """What control would be sent: the messages of the arm that each would have without control."""
    control = rows[arms == CONTROL]
    instead = withheld_arms(units[control], salt=rules.salt, weights=rules.weights)
    offers = np.full(len(control), None, dtype=object)
    frame = lay_out(control, instead, offers=offers)[["customer_id", "step", "channel", "zones", "not_before"]]
    # every message has a number of its own here, those of one step too
    return frame.rename(columns={"not_before": "at"}).assign(step=frame.groupby("customer_id").cumcount() + 1)


def _members(times: ArmTimes, rows: NDArray[np.intp], ids: NDArray[np.object_], rules: PlanRules) -> Members:
    if not times.is_spread:
        return Members(times, rows, np.zeros(len(rows)))
    return Members(times, rows, np.asarray(fractions(f"{rules.salt}.moment", ids[rows].tolist())))


def _empty_messages() -> pd.DataFrame:
    texts = ("customer_id", "arm", "channel", "template", "offer", "zones", "place")
    frame = pd.DataFrame({name: pd.Series(dtype=object) for name in texts})
    for name in ("not_before", "closes_at", "expires_at"):
        frame[name] = pd.Series(dtype="datetime64[us, UTC]")
    frame.insert(2, "step", pd.Series(dtype="int64"))
    frame.insert(3, "turn", pd.Series(dtype="int64"))
    return frame


def _left_out(ids: NDArray[np.object_], reasons: NDArray[np.object_], details: NDArray[np.object_]) -> pd.DataFrame:
    out = reasons != ""
    return pd.DataFrame({"customer_id": ids[out], "reason": reasons[out], "detail": details[out]})


def _count(reasons: NDArray[np.object_]) -> dict[str, int]:
    codes, counts = np.unique(reasons[reasons != ""].astype(str), return_counts=True)
    return {str(code): int(count) for code, count in zip(codes, counts, strict=True)}
