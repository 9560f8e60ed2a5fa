"""Results: one comparison of one arm with control on one metric, as it is shown, stored and decided upon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Status = Literal[
    "ok", "insufficient_data", "zero_variance", "relative_undefined", "no_control", "not_measured", "not_comparable"
]
USABLE: tuple[Status, ...] = ("ok", "relative_undefined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An arm against control. Numbers are floats or None, never nan; `status` says why one is missing.

    `low`, `high`: the two-sided interval of `difference` at 1 - alpha. `lower_80`, `lower_95`, `upper_95`: one-sided
    confidence bounds of `difference`, for non-inferiority and margins. `p_adjusted`: p over the family of arms.
    """

    metric: str
    kind: str
    arm: str
    control: str
    n_arm: int
    n_control: int
    arm_value: float | None = None
    control_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    relative_lift: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    method: str = ""
    status: Status = "ok"
    se: float | None = None
    df: float | None = None
    lower_80: float | None = None
    lower_95: float | None = None
    upper_95: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                object.__setattr__(self, field.name, None)

    @property
    def usable(self) -> bool:
        """Whether difference, interval and p are there."""
        return self.status in USABLE and self.p_value is not None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Read what `to_json` wrote; unknown keys are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})
