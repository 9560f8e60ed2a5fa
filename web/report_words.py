"""The words of the report: metrics, verdicts, gates, health checks and states as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from web import numbers


@dataclass(frozen=True)
class Verdict:
    """A verdict: the CSS class of its banner, a sign, the headline (may name {arm}), and what it means."""

    css: str
    sign: str
    headline: str
    meaning: str


VERDICTS: Final[Mapping[str, Verdict]] = {
    "promote": Verdict(
        "good", "✓", "Promote {arm}", "Every gate passed; the arm gets the audience, a slice stays in control."
    ),
    "keep_testing": Verdict("calm", "…", "Keep testing", "Too early to say: more customers or more time are needed."),
    "stop_harm": Verdict(
        "bad", "✕", "Stop {arm}: it does harm", "An arm is worse than control by more than was tolerated."
    ),
    "inconclusive": Verdict("calm", "=", "No winner", "The planned test is over and no arm passed every gate."),
    "invalid": Verdict("bad", "!", "Invalid", "The experiment is broken; its numbers must not be used."),
    "review": Verdict("warn", "?", "Needs a person", "The numbers look good, but a check must be judged by somebody."),
    "keep": Verdict("good", "✓", "Keep {arm}", "Against its holdback the promoted arm still lifts."),
    "demote": Verdict("bad", "✕", "Demote {arm}", "Against its holdback the promoted arm's lift is gone, or it harms."),
    "keep_measuring": Verdict("calm", "…", "Keep measuring {arm}", "Too early to say whether its lift is still there."),
}
NO_VERDICT: Final = Verdict(
    "calm", "…", "Not decided yet", "The results are shown as they stand; nobody has decided on them."
)

METRICS: Final[Mapping[str, str]] = {
    "repurchase": "Repurchase",
    "retained": "Retained",
    "revenue": "Revenue per customer",
    "orders": "Orders per customer",
    "margin": "Margin per customer",
    "net_margin": "Margin less messages and offers, per customer",
    "spend_per_order": "Revenue per order",
    "unsubscribed": "Unsubscribed",
    "complained": "Complained",
    "message_cost": "Message cost per customer",
    "time_to_repurchase": "Time to repurchase",
}
MONEY: Final = frozenset({"revenue", "margin", "net_margin", "spend_per_order", "message_cost"})

STATUSES: Final[Mapping[str, str]] = {
    "insufficient_data": "too few data",
    "zero_variance": "nothing varies",
    "relative_undefined": "control is zero",
    "no_control": "no control",
    "not_measured": "not measured",
    "not_comparable": "not comparable",
}

GATES: Final[Mapping[str, str]] = {
    "integrity": "Integrity",
    "maturity": "Maturity",
    "size": "Size",
    "efficacy": "Effect",
    "practical": "Worth it",
    "margin": "Margin",
    "harm": "Harm",
    "choice": "Choice",
    "shrinkage": "Shrinkage",
    "feedback": "Feedback",
}

HEALTH: Final[Mapping[str, tuple[str, float, bool]]] = {
    # what it says, its threshold, whether the value must be at least (True) or at most (False) the threshold
    "srm_p": ("Split of the assigned customers is as planned (p)", 0.001, True),
    "srm_analysed_p": ("Split of the analysed customers is as planned (p)", 0.001, True),
    "balance_p": ("Arms were alike before the start (p)", 0.001, True),
    "contamination": ("Share of control that was reached by messages", 0.01, False),
    "crossover": ("Share of customers found in several arms", 0.01, False),
    "delivery_gap": ("Difference of delivered shares between arms", 0.1, False),
}

CHECKS: Final[Mapping[str, str]] = {
    "adjusted_p": "{metric}: p, adjusted for the number of arms",
    "minimum_effect": "{metric}: lift against the smallest one worth acting on",
    "incremental_margin": "margin gained per customer, with 80% confidence at least",
    "margin_unknown": "margin gained per customer",
    "noninferior": "{metric}: worst case with 95% confidence",
    "significantly_worse": "{metric}: not significantly worse (p)",
}
WANTED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("adjusted_p", "crossover", "contamination", "delivery_gap", "expected_loss"), "≤"),
    **dict.fromkeys(("srm_assigned", "srm_analysed", "balance", "minimum_effect", "planned_size"), "≥"),
    **dict.fromkeys(("floor", "conversions", "information"), "≥"),
    **dict.fromkeys(("incremental_margin", "shrunk_lift", "delivered"), ">"),
    "noninferior": "<",
}

STATES: Final[Mapping[str, str]] = {
    "delivered": "delivered",
    "sent": "sent",
    "pending": "pending",
    "failed": "failed",
    "in_doubt": "in doubt",
    "skipped": "skipped",
}


def metric(name: str) -> str:
    """A metric as people read it."""
    return METRICS.get(name, name.replace("_", " ").capitalize())


def level(name: str, kind: str, value: float | None, currency: str) -> str:
    """A metric's value in an arm."""
    if kind == "proportion":
        return numbers.share(value, digits=1 if value is None or value >= 0.02 or value == 0 else 2)
    return numbers.amount(value, unit=_unit(name, kind, currency))


def difference(name: str, kind: str, value: float | None, currency: str, *, digits: int) -> str:
    """A difference between an arm and control, with so many decimals."""
    if kind == "proportion":
        return numbers.points(value, digits=digits)
    return numbers.change(value, unit=_unit(name, kind, currency), digits=digits)


def _unit(name: str, kind: str, currency: str) -> str:
    return "days" if kind == "survival" else currency if name in MONEY else ""


def interval(kind: str, low: float | None, high: float | None, *, digits: int) -> str:
    """[+1.5, +6.5], in the unit and with the decimals of the difference it stands beside."""
    if low is None or high is None:
        return numbers.NOTHING
    scale = 100.0 if kind == "proportion" else 1.0
    return f"[{numbers.signed(scale * low, digits=digits)}, {numbers.signed(scale * high, digits=digits)}]"


def check(code: str, metric_name: str, text: str) -> str:
    """What a check of an arm looks at, the same words for every arm."""
    return CHECKS[code].format(metric=metric(metric_name).lower()) if code in CHECKS else text


def threshold(code: str, text: str) -> str:
    """The threshold with the side on which it must be met."""
    return f"{WANTED[code]} {text}" if code in WANTED and text != numbers.NOTHING else text


def decimals(kind: str, largest: float) -> int:
    """With how many decimals the differences of a metric are written, by the largest of them."""
    if kind == "proportion":
        return 1 if largest >= 0.01 or largest == 0 else 2
    return numbers.digits(largest)
