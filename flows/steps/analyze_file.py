"""Analyses the table of any experiment with the engine that decides campaigns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import pandas as pd

    from experiments.analysis import Analysis
    from experiments.families import Adjust
    from experiments.table import Missing
    from experiments.views import Look


MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-")
"""How files write that a value is missing."""


@dataclass(frozen=True, slots=True)
class Views:
    """What is shown beside the plain results: columns of strata and segments, the look (number, of, information).

    `winsorise`: metric -> quantile of the pooled cap. `lower_is_better`: metrics of which less is better. `margins`:
    metric -> tolerated worsening. `delivered`: the column that says who was reached.
    """

    strata: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    look: tuple[int, int, float | None] | None = None
    bayes: bool = False
    horizon: float | None = None
    adjust: Adjust = "holm"
    winsorise: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: tuple[str, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    delivered: str | None = None


def analyze_file(  # noqa: PLR0913  (the options of one analysis; all but the file are named)
    path: Path,
    *,
    arm: str,
    control: str,
    metrics: Sequence[str],
    covariates: Mapping[str, str],
    expect: Mapping[str, float] | None,
    alpha: float,
    missing: Missing = "refuse",
    views: Views | None = None,
) -> Analysis:
    """Compare the arms of the table in `path` (CSV or Parquet, one row per unit); `missing`: what missing values mean.

    Raises ExperimentError for a file that is missing or unreadable, and for columns or arms that it lacks.
    """
    from experiments.analysis import analyze
    from experiments.views import Prior

    asked = views or Views()
    return analyze(
        read_table(path, arm=arm),
        arm=arm,
        control=control,
        metrics=metrics,
        covariates=covariates,
        expect=expect,
        alpha=alpha,
        missing=missing,
        strata=asked.strata,
        segments=asked.segments,
        look=_look(asked.look),
        bayes=Prior() if asked.bayes else None,
        horizon=asked.horizon,
        adjust=asked.adjust,
        winsorise=asked.winsorise,
        lower_is_better=asked.lower_is_better,
        margins=asked.margins,
        delivered=asked.delivered,
    )


def _look(asked: tuple[int, int, float | None] | None) -> Look | None:
    from experiments.views import Look

    return None if asked is None else Look(number=asked[0], of=asked[1], information=asked[2])


def read_table(path: Path, *, arm: str) -> pd.DataFrame:
    """The table in a CSV or Parquet file; of the column `arm` only an empty cell is missing ("None" is a name)."""
    import pandas as pd

    if not path.is_file():
        raise ExperimentError(f"{path}: no such file; expected a CSV or Parquet file with one row per unit")
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError):
            raise ExperimentError(f"{path}: not a readable Parquet file; expected Parquet, or CSV named .csv") from None
    try:
        columns = pd.read_csv(path, nrows=0).columns
        missing = {name: [""] if name == arm else [*MISSING] for name in columns}
        return pd.read_csv(path, keep_default_na=False, na_values=missing, dtype={arm: "str"})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        text = str(error).replace("Error tokenizing data. C error: ", "")
        raise ExperimentError(f"{path}: not a readable CSV file: {text}; correct the file and run again") from None
