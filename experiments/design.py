"""The design of an experiment: everything that is fixed before the first outcome is seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from experiments.errors import ExperimentError

_NOT_CONTENT = ("experiment_id", "epoch", "salt", "planned_n", "guardrail_n", "segments", "winsorise")


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that may not get worse by more than a margin.

    `kind` absolute: the margin is in the metric's unit (shares in 0..1, money in major units); relative: it is a share
    of control's value, taken at the decision (0.1: a tenth worse than control).
    """

    metric: str
    max_increase_abs: float | None = None
    max_decrease_abs: float | None = None
    kind: Literal["absolute", "relative"] = "absolute"

    def __post_init__(self) -> None:
        margins = [self.max_increase_abs, self.max_decrease_abs]
        given = [margin for margin in margins if margin is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ExperimentError(f"guardrail {self.metric}: give exactly one positive margin, got {margins}")
        if self.kind not in ("absolute", "relative"):
            raise ExperimentError(f"guardrail {self.metric}: kind is absolute or relative, got {self.kind!r}")

    @property
    def margin(self) -> float:
        """The tolerated worsening as it was written, positive."""
        return self.max_increase_abs if self.max_increase_abs is not None else float(self.max_decrease_abs or 0.0)

    def margin_at(self, control_value: float | None) -> float:
        """The tolerated worsening in the metric's own unit, given control's value (unknown: nothing is tolerated)."""
        return self.margin if self.kind == "absolute" else self.margin * abs(control_value or 0.0)

    @property
    def harm_sign(self) -> int:
        """+1 where an increase is the harm, -1 where a decrease is."""
        return 1 if self.max_increase_abs is not None else -1


@dataclass(frozen=True, slots=True)
class Effect:
    """The smallest effect worth acting on: `absolute` in the metric's unit, or `relative` to control's value."""

    value: float
    kind: Literal["absolute", "relative"] = "absolute"

    def absolute(self, control_value: float) -> float:
        """The effect in the metric's own unit, given control's value."""
        return self.value if self.kind == "absolute" else self.value * abs(control_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One experiment as agreed before it starts.

    `weights`: arms in file order, control last. `planned_n`: planned size of the smallest arm. `horizon_days`: the
    outcome window from assignment. `lateness_days`: how much longer to wait for late facts. `covariates`: metric ->
    pre-period column used for CUPED. `treatment`: a hash of what the arms do and to whom, so that another treatment is
    another experiment. `segments`: features by whose values effects are explored, named before the first outcome is
    seen. `allocation`: `fixed`, or `thompson` (re-weighted per wave; never promoted). `winsorise`: the quantile of all
    arms together at which money is capped in the view beside the plain results. `guardrail_n`: guardrail -> size of the
    smallest arm that its margin needs.
    """

    experiment_id: str
    campaign: str
    salt: str
    weights: tuple[tuple[str, float], ...]
    primary: str
    horizon_days: float
    epoch: int = 1
    unit: str = "customer"
    control: str = "control"
    metrics: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    minimum_effect: Effect = Effect(0.0)
    looks: int = 1
    alpha: float = 0.05
    power: float = 0.8
    lateness_days: float = 3.0
    hypothesis: str = ""
    planned_n: int | None = None
    covariates: tuple[tuple[str, str], ...] = ()
    treatment: str = ""
    allocation: Literal["fixed", "thompson"] = "fixed"
    segments: tuple[str, ...] = ()
    winsorise: float = 0.999
    guardrail_n: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.weights]
        if self.control not in names or len(set(names)) != len(names):
            raise ExperimentError(
                f"design {self.campaign}: weights {names} must name {self.control!r} and no arm twice"
            )
        if not 0.0 < self.alpha < 1.0 or not 0.0 < self.power < 1.0:
            raise ExperimentError(
                f"design {self.campaign}: alpha and power lie between 0 and 1, got {self.alpha}, {self.power}"
            )
        if self.looks < 1 or self.horizon_days <= 0:
            raise ExperimentError(f"design {self.campaign}: needs at least one look and a horizon above 0 days")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that get something: all but control, in file order."""
        return tuple(name for name, _ in self.weights if name != self.control)

    @property
    def units(self) -> str:
        """What is drawn, and what sizes count, as a word: customers or households."""
        return f"{self.unit}s"

    def all_metrics(self) -> tuple[str, ...]:
        """Primary, secondary and guardrail metrics, each once, in that order."""
        return tuple(dict.fromkeys((self.primary, *self.metrics, *(guard.metric for guard in self.guardrails))))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` reads them back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for guard in plain["guardrails"]:
            if guard["kind"] == "absolute":
                del guard["kind"]  # the default: designs agreed before there were two kinds keep their hash
        if not self.segments:
            del plain["segments"]
        if self.winsorise == Design.__dataclass_fields__["winsorise"].default:
            del plain["winsorise"]
        if not self.guardrail_n:
            del plain["guardrail_n"]
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Design:
        """Read what `to_json` wrote. Raises: ExperimentError where a required key is missing or one is unknown."""
        fields = dict(data)
        try:
            fields["weights"] = tuple((str(name), float(weight)) for name, weight in fields["weights"])
            fields["metrics"] = tuple(fields.get("metrics", ()))
            fields["segments"] = tuple(fields.get("segments", ()))
            fields["guardrail_n"] = tuple((str(name), int(n)) for name, n in fields.get("guardrail_n", ()))
            fields["guardrails"] = tuple(Guardrail(**guard) for guard in fields.get("guardrails", ()))
            fields["minimum_effect"] = Effect(**fields.get("minimum_effect", {"value": 0.0}))
            fields["covariates"] = tuple((str(metric), str(column)) for metric, column in fields.get("covariates", ()))
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ExperimentError(
                f"design: cannot be read back ({error}); expected what Design.to_json wrote"
            ) from error

    def content_hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON of what was agreed: all but id, epoch, salt, planned sizes, and views."""
        content = {key: value for key, value in self.to_json().items() if key not in _NOT_CONTENT}
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
