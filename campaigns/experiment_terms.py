"""How a campaign is measured and what happens to the result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from campaigns.units import Effect, PositiveDuration, Share
from campaigns.words import FeatureName, MetricName, Part, ReportedMetric, as_tuple


class Guardrail(Part):
    """How much worse a metric may get before an arm counts as harmful. Give exactly one of the two."""

    max_increase: Effect | None = None
    """For what should stay low, such as unsubscribed."""
    max_decrease: Effect | None = None
    """For what should stay high, such as margin."""


class Experiment(Part):
    """How the campaign is measured. Frozen when the first customer is assigned."""

    hypothesis: str = ""
    """What you expect, in one sentence."""
    control: Share
    """The share of customers who get nothing, so that there is something to compare with."""
    unit: Literal["customer", "household"] = "customer"
    """What is assigned to an arm: each customer, or each household (the column household_id) with all its customers."""
    allocation: Literal["fixed", "thompson"] = "fixed"
    """How the shares are set. fixed: as the file says. thompson: the file's in the first runs, then by how likely each
    arm is the best; such a result is reviewed, never promoted."""
    horizon: PositiveDuration
    """How long after assignment outcomes count."""
    primary: MetricName
    """The metric that decides."""
    metrics: Annotated[tuple[ReportedMetric, ...], BeforeValidator(as_tuple)] = Field(
        default=(), examples=[["revenue", "margin", "orders", "retained"]]
    )
    """Further metrics that are reported."""
    guardrails: dict[MetricName, Guardrail] = Field(
        default_factory=dict, examples=[{"unsubscribed": {"max_increase": "0.5pp"}}]
    )
    """Metrics that must not get worse by more than a margin."""
    minimum_effect: Effect
    """The smallest effect worth acting on: 1.5pp (percentage points), 10% (of control's value), 0.50 EUR."""
    looks: int = Field(default=1, ge=1, le=20)
    """How many planned analyses there are (Lan-DeMets, O'Brien-Fleming); 1 is a fixed horizon."""
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    """The chance of a false alarm that is accepted."""
    power: float = Field(default=0.8, gt=0.0, lt=1.0)
    """The chance of finding the minimum effect when it is there."""
    segments: Annotated[tuple[FeatureName, ...], BeforeValidator(as_tuple)] = Field(
        default=(), max_length=8, examples=[["tier", "value_tier", "churn_risk", "preferred_channel"]]
    )
    """Features of few values by which effects are explored; named before the first customer is assigned."""
    winsorise: Annotated[Share, Field(gt=0.5, le=1.0)] = 0.999
    """Where money per customer is capped in the view beside the plain results: this share of the customers of all arms
    together lies below the cap."""
    bayesian: bool = False
    """Whether the chance to beat control and the expected loss are shown beside the results."""
    expected_lift: Effect | None = None
    """Written by retain after a promotion: the lift to expect, shrunk for the winner's luck."""


class Feedback(Part):
    """What happens to this file when the experiment has a winner."""

    mode: Literal["off", "propose", "apply"] = "off"
    """off: nothing; propose: a patch to review; apply: the file is changed."""
    holdback: Share = 0.1
    """The share that stays in control after a promotion, so that the lift goes on being measured."""
