"""The whole programme's lift: the global holdout against as many others, drawn at random, whom campaigns may touch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from campaigns.segment_tree import Literal
from experiments.analysis import Analysis, analyze_moments
from experiments.assign import fractions
from experiments.errors import ExperimentError
from experiments.health import balance
from experiments.metrics import METRICS
from flows.steps.planning_rules import holdout_rule
from warehouse.facts.outcomes import COVARIATES, wave_moments
from warehouse.facts.segment_sql import select_segment
from warehouse.ledger.programme import HoldoutPeriod, holdout_history, record_holdout, record_programme

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from flows.wiring import Workspace

HOLDOUT: Final = "holdout"
PROGRAMME: Final = "programme"
MEASURED: Final = ("repurchase", "revenue", "retained", "orders", "margin")
LONGEST_WINDOW: Final = timedelta(days=90)
"""How long outcomes are counted where nobody says: a quarter, or what is known of the period so far."""
_PRE_PERIOD: Final = timedelta(days=365)
_EVERYBODY: Final = Literal(True, "boolean")


@dataclass(frozen=True)
class Programme:
    """The programme's lift over [start, end): everybody who was a customer at `start`, of either side.

    `released`: customers of either side who were in the holdout of the period before; they carry over what they missed.
    """

    period: HoldoutPeriod
    start: datetime
    end: datetime
    analysis: Analysis
    population: int
    released: dict[str, int]
    balance_p: float | None

    def to_json(self) -> dict[str, Any]:
        """The measurement as `retain measure --programme --json` prints it."""
        return {
            "share": self.period.share,
            "period_began_at": self.period.began_at.isoformat(),
            "from": self.start.isoformat(),
            "to": self.end.isoformat(),
            "population": self.population,
            "sides": {arm: int(n) for arm, n in self.analysis.arms.items()},
            "released_lately": self.released,
            "balance_p": self.balance_p,
            "alpha": self.analysis.alpha,
            "results": [result.to_json() for result in self.analysis.results],
        }


def note_holdout(ws: Workspace, *, at: datetime) -> None:
    """Keep in the ledger who the holdout is from `at` on; a period begins on its day of rotation, or with a first run.

    Raises LedgerError where the ledger knows another holdout for that time.
    """
    rule = holdout_rule(ws.settings, at=at)
    rotated = ws.settings.holdout.rotated_on(at)
    with ws.ledger.begin() as tx:
        known = holdout_history(tx)
        if not known and rule.share == 0.0:
            return
        of_salt = any(period.salt == rule.salt for period in known)
        record_holdout(tx, rule.salt, rule.share, at=rotated if rotated and known and not of_salt else at)


def measure_programme(
    ws: Workspace, *, now: datetime, start: datetime | None = None, window: timedelta | None = None
) -> Programme:
    """Measure what all campaigns together did: by default over the first 90 days of the holdout's period at `now`.

    Every customer who existed at `start` counts on the side where the hash puts it, whatever was sent. As many others
    as the holdout has members are drawn by a hash of their own, so that both sides are equally large. Records what it
    found. Raises ExperimentError where there is no holdout, or nothing can be known of the window yet.
    """
    note_holdout(ws, at=now)
    with ws.ledger.read() as tx:
        history = holdout_history(tx)
    begun = [period for period in history if period.began_at <= (start or now)]
    if not begun or begun[-1].share == 0.0:
        raise ExperimentError(
            "there is no global holdout to compare with: set holdout.share in retain.toml (such as 5%), run a campaign"
        )
    period = begun[-1]
    first = max(period.began_at, start or period.began_at)
    last = _window_end(ws, period, first, window, now=now)
    cohort, population = _sides(ws, period, first)
    moments = wave_moments(ws.facts, cohort, start=first, horizon=last - first, pre_period=_PRE_PERIOD)
    analysis = analyze_moments(
        moments, control=HOLDOUT, metrics=[METRICS[name] for name in MEASURED], expect={PROGRAMME: 1, HOLDOUT: 1}
    )
    before = begun[-2] if len(begun) > 1 else None
    found = Programme(
        period=period,
        start=first,
        end=last,
        analysis=analysis,
        population=population,
        released=_released(cohort, before),
        balance_p=balance({arm: m.select(COVARIATES) for arm, m in moments.items()}, control=HOLDOUT),
    )
    with ws.ledger.begin() as tx:
        record_programme(tx, found.to_json(), measured_at=now)
    return found


def describe_history(ws: Workspace) -> list[dict[str, Any]]:
    """Every period of the holdout with its share, oldest first."""
    with ws.ledger.read() as tx:
        periods = [asdict(period) for period in holdout_history(tx)]
    return [
        {"share": p["share"], "from": p["began_at"].isoformat(), "to": p["ended_at"] and p["ended_at"].isoformat()}
        for p in periods
    ]


def _window_end(
    ws: Workspace, period: HoldoutPeriod, first: datetime, window: timedelta | None, *, now: datetime
) -> datetime:
    """The end of the window: asked for, or 90 days, but not beyond the period or what the facts can know by now."""
    known = now - ws.settings.measurement.lateness
    limit = min(known, period.ended_at or known)
    last = first + window if window is not None else min(first + LONGEST_WINDOW, limit)
    if last > limit or last <= first:
        raise ExperimentError(
            f"the window from {first.date()} ends after {limit.date()}, up to which the holdout stood and its orders "
            "are known; measure a shorter or an earlier window, or wait"
        )
    return last


def _sides(ws: Workspace, period: HoldoutPeriod, first: datetime) -> tuple[pd.DataFrame, int]:
    """The holdout and as many others drawn at random, as of the window's first instant; and how many all are."""
    import pandas as pd

    ids = select_segment(ws.facts, _EVERYBODY, as_of=first, options=ws.feature_options)["customer_id"]
    customers = ids.to_numpy(dtype=object)
    held = fractions(period.salt, customers.tolist()) < period.share
    rest = customers[~held]
    order = np.argsort(fractions(f"{period.salt}.sample.{first.isoformat()}", rest.tolist()), kind="stable")
    sample = rest[order[: int(held.sum())]]
    if not len(sample) or not held.any():
        raise ExperimentError(
            f"too few customers on {first.date()} for a holdout of {period.share:.1%} and as many others"
        )
    sides = [HOLDOUT] * int(held.sum()) + [PROGRAMME] * len(sample)
    frame = pd.DataFrame({"customer_id": np.concatenate([customers[held], sample]), "arm": sides})
    return frame, len(customers)


def _released(cohort: pd.DataFrame, before: HoldoutPeriod | None) -> dict[str, int]:
    if before is None:
        return {PROGRAMME: 0, HOLDOUT: 0}
    was: NDArray[np.bool_] = fractions(before.salt, cohort["customer_id"].tolist()) < before.share
    return {side: int((was & (cohort["arm"] == side).to_numpy()).sum()) for side in (PROGRAMME, HOLDOUT)}
