"""What a campaign whose shares follow its outcomes (`allocation: thompson`) cannot have beside it, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from campaigns.units import parse_share
from campaigns.validation import Issue
from campaigns.words import CONTROL
from experiments.bandit import floor_for
from experiments.metrics import METRICS

_KEY: Final = ("experiment", "allocation")


def check_allocation(experiment: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[Issue]:
    """Every issue of `allocation: thompson` with the other keys, from the file's plain values; none for `fixed`."""
    if experiment.get("allocation") != "thompson":
        return
    primary = METRICS.get(str(experiment.get("primary")))
    if primary is not None and primary.kind != "proportion":
        able = ", ".join(m.name for m in METRICS.values() if m.kind == "proportion" and m.source == "facts")
        yield Issue(_KEY, f"the shares follow successes of a share: {primary.name} is a {primary.kind}; use {able}")
    if experiment.get("looks", 1) != 1:
        message = "thompson never promotes, so there is nothing to look early for: use 1, or allocation: fixed"
        yield Issue(("experiment", "looks"), message)
    if experiment.get("segments"):
        message = "with thompson a segment's customers differ in when they were drawn: leave it out, or use fixed"
        yield Issue(("experiment", "segments"), message, at_key=True)
    if experiment.get("unit", "customer") != "customer":
        yield Issue(("experiment", "unit"), "thompson counts customers, one by one: use customer, or allocation: fixed")
    if "expected_lift" in experiment:
        message = "a promoted arm is measured against a holdback of fixed size: use fixed"
        yield Issue(_KEY, message)
    yield from _check_floor(experiment, arms)


def _check_floor(experiment: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[Issue]:
    """No share that the first run uses may lie under the floor of the later ones."""
    places: dict[tuple[str, ...], object] = {
        ("arms", name, "weight"): arm.get("weight") for name, arm in arms.items() if isinstance(arm, Mapping)
    }
    places["experiment", CONTROL] = experiment.get(CONTROL)
    shares = {place: share for place, value in places.items() if (share := _share(value))}
    floor = floor_for(len(shares))
    for place, share in shares.items():
        if share < floor - 1e-9:
            message = f"is below {floor:.1%}, which thompson leaves everybody so that all can be compared"
            yield Issue(place, message)


def _share(value: object) -> float | None:
    try:
        return float(parse_share(value))
    except ValueError:
        return None
