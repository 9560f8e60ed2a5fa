"""What must fit together in a campaign file: weights, metrics, currencies, channels.

Read from the file's plain values, so that a mistake elsewhere in the file hides none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from campaigns.allocation_checks import check_allocation
from campaigns.features import FEATURES, Kind, known_kinds
from campaigns.journey_checks import check_journeys
from campaigns.nearest import did_you_mean
from campaigns.problems import Location
from campaigns.timing_checks import check_timing
from campaigns.units import Difference, parse_difference, parse_money, parse_share, show
from campaigns.validation import Issue
from campaigns.words import CONTROL
from experiments.metrics import METRICS, Metric

_HUNDRED: Final = Decimal(100)


def check_campaign(raw: object, *, attributes: Mapping[str, Kind] | None = None) -> list[Issue]:
    """Every issue between the keys of one campaign file; what does not even parse is left to the model.

    `attributes`: the company's own columns of its customers, with their kinds.
    """
    if not isinstance(raw, Mapping):
        return []
    experiment, arms, budget = (_mapping(raw.get(key)) for key in ("experiment", "arms", "budget"))
    return [
        *_check_weights(experiment, arms),
        *_check_metrics(experiment),
        *_check_guardrails(_mapping(experiment.get("guardrails"))),
        *_check_segments(_list(experiment.get("segments")), attributes or {}),
        *check_allocation(experiment, arms),
        *_check_steps(arms),
        *check_journeys(raw),
        *_check_currencies(budget),
        *check_timing(raw),
        *_check_crowding(raw),
        *_check_households(experiment),
    ]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _check_weights(experiment: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[Issue]:
    if CONTROL in arms:
        message = f'"{CONTROL}" is the arm that gets nothing; its share stands in experiment.control'
        yield Issue(("arms", CONTROL), message, at_key=True)
    shares = {name: _percent(_mapping(arm).get("weight")) for name, arm in arms.items()}
    shares[CONTROL] = _percent(experiment.get("control"))
    if shares[CONTROL] == 0:
        message = "must be above 0%: without a control arm there is nothing to compare with"
        yield Issue(("experiment", "control"), message)
    total = sum(share for share in shares.values() if share is not None)
    if None not in shares.values() and arms and total != _HUNDRED:
        listed = ", ".join(f"{name} {_plain(share)}%" for name, share in shares.items() if share is not None)
        yield Issue(("arms",), f"weights and control make {_plain(total)}%, not 100% ({listed})", at_key=True)


def _percent(value: object) -> Decimal | None:
    try:
        parse_share(value)
    except ValueError:
        return None
    return Decimal(str(value).rstrip("% "))


def _plain(number: Decimal | int) -> str:
    return f"{Decimal(number).normalize():f}"


def _check_metrics(experiment: Mapping[str, Any]) -> Iterator[Issue]:
    primary = experiment.get("primary")
    if isinstance(primary, str):
        yield from _check_metric(primary, ("experiment", "primary"))
        yield from _check_primary(primary, experiment)
    further = _list(experiment.get("metrics"))
    for i, name in enumerate(further):
        location = ("experiment", "metrics", i)
        if not isinstance(name, str):
            continue
        yield from _check_metric(name, location)
        if name == primary or name in further[:i]:
            yield Issue(location, f"{name} is named twice; the primary metric is reported anyway")


def _check_metric(name: str, location: Location, *, at_key: bool = False) -> Iterator[Issue]:
    if name not in METRICS:
        message = f'unknown metric "{name}"{did_you_mean(name, METRICS)}; known: {", ".join(sorted(METRICS))}'
        yield Issue(location, message, at_key)


def _check_primary(name: str, experiment: Mapping[str, Any]) -> Iterator[Issue]:
    metric = METRICS.get(name)
    if metric is None:
        return
    if metric.kind not in ("proportion", "mean") or metric.source != "facts":
        able = ", ".join(m.name for m in METRICS.values() if m.kind in ("proportion", "mean") and m.source == "facts")
        yield Issue(("experiment", "primary"), f"{name} can be reported but cannot decide; use one of {able}")
    if metric.kind == "survival":
        return
    for key in ("minimum_effect", "expected_lift"):
        if effect := _difference(experiment.get(key)):
            yield from _check_unit(effect, metric, ("experiment", key))


def _difference(value: object) -> Difference | None:
    try:
        return parse_difference(value)
    except ValueError:
        return None


def _check_unit(effect: Difference, metric: Metric, location: Location) -> Iterator[Issue]:
    """A share moves by percentage points, money by money, a count by a number, each also by per cent of control.

    Money may also be a plain number, which is how a lift is written back.
    """
    money = metric.unit.startswith("money")
    if metric.kind == "proportion":
        wanted, fits = "1.5pp", effect.unit in ("%", "pp")
    else:
        wanted = "0.50 EUR" if money else "0.05"
        fits = effect.unit in ("%", "") or (money and effect.unit != "pp")
    if not fits:
        yield Issue(location, f'{metric.name} is measured in {metric.unit}: write "{wanted}", not "{effect}"')


def _check_guardrails(guardrails: Mapping[str, Any]) -> Iterator[Issue]:
    for name, rule in guardrails.items():
        location = ("experiment", "guardrails", name)
        yield from _check_metric(name, location, at_key=True)
        given = [key for key in ("max_increase", "max_decrease") if key in _mapping(rule)]
        if isinstance(rule, Mapping) and len(given) != 1:
            yield Issue(location, "give exactly one of max_increase and max_decrease", at_key=True)
        metric = METRICS.get(name)
        if metric is not None and metric.kind == "survival":
            message = f"{name} follows customers whose window is still open: no size can be planned for a margin of it"
            yield Issue(location, f"{message}; report it under metrics, and guard repurchase or retained", at_key=True)
            continue
        if metric is None or len(given) != 1:
            continue
        wanted = "max_decrease" if metric.higher_is_better else "max_increase"
        if given[0] != wanted:
            harm = "falls" if metric.higher_is_better else "rises"
            yield Issue((*location, given[0]), f"{name} is harmed when it {harm}: use {wanted}", at_key=True)
        if (margin := _difference(rule[given[0]])) is None:
            continue
        if margin.value <= 0:
            yield Issue((*location, given[0]), f'expected a margin above 0, got "{margin}"')
        elif margin.kind == "relative" and metric.source == "ledger":
            message = f'hardly any of control are {name}: a share of that is no margin; write "0.5pp", not "{margin}"'
            yield Issue((*location, given[0]), message)
        else:
            yield from _check_unit(margin, metric, (*location, given[0]))


def _check_segments(names: Sequence[object], attributes: Mapping[str, Kind]) -> Iterator[Issue]:
    """Effects by segment are told by features of few values, which the catalogue or the company's columns have."""
    kinds = known_kinds(attributes)
    for i, name in enumerate(names):
        location = ("experiment", "segments", i)
        if not isinstance(name, str):
            continue
        if name in names[:i]:
            yield Issue(location, f"{name} is named twice")
        elif name not in kinds:
            known = [other for other in kinds if _has_few_values(other, kinds[other])]
            yield Issue(
                location, f'unknown feature "{name}"{did_you_mean(name, known)}; known: {", ".join(sorted(known))}'
            )
        elif not _has_few_values(name, kinds[name]):
            message = f"{name} is a {kinds[name]} of many values; use a feature of few, such as value_tier or rfm_r"
            yield Issue(location, message)


def _has_few_values(name: str, kind: Kind) -> bool:
    return kind in ("text", "boolean") or (name in FEATURES and FEATURES[name].unit == "quintile")


def _check_steps(arms: Mapping[str, Any]) -> Iterator[Issue]:
    for name, arm in arms.items():
        steps = _mapping(arm).get("steps")
        for i, step in enumerate(steps if isinstance(steps, list) else []):
            fallback = _mapping(step).get("fallback")
            if isinstance(fallback, list):
                yield from _check_fallback(
                    _mapping(step).get("channel"), fallback, ("arms", name, "steps", i, "fallback")
                )


def _check_fallback(channel: object, fallback: Sequence[object], location: Location) -> Iterator[Issue]:
    for i, other in enumerate(fallback):
        if other == channel or other in fallback[:i]:
            yield Issue((*location, i), f"{show(other)} is tried before already; name each channel once")


def _check_currencies(budget: Mapping[str, Any]) -> Iterator[Issue]:
    currencies: list[str] = []
    for key in ("cost", "discounts"):
        try:
            currencies.append(parse_money(budget.get(key)).currency)
        except ValueError:
            continue
    if len(set(currencies)) > 1:
        yield Issue(("budget", "discounts"), f"one campaign has one currency, here are {' and '.join(currencies)}")


def _check_crowding(raw: Mapping[str, Any]) -> Iterator[Issue]:
    """A time of rest after a layer needs the layer."""
    audience = _mapping(raw.get("audience"))
    if "cool_off" in audience and "exclusive" not in audience:
        message = (
            "rests after campaigns of the layer, and audience.exclusive names none; name it, or set policy.cool_off"
        )
        yield Issue(("audience", "cool_off"), f"{message} in retain.toml for all campaigns", at_key=True)


def _check_households(experiment: Mapping[str, Any]) -> Iterator[Issue]:
    """Readings that take customers for strangers to each other are not made of households."""
    if experiment.get("unit") != "household":
        return
    for key, what in (("segments", "effects by segment"), ("bayesian", "the chance to beat control")):
        if experiment.get(key):
            message = f"{what} would take customers of one household for strangers: leave it out, or use unit: customer"
            yield Issue(("experiment", key), message, at_key=True)
