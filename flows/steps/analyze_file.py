"""Analyses the table of any experiment with the engine that decides campaigns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import pandas as pd

    from experiments.analysis import Analysis
    from experiments.table import Missing


MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-")
"""How files write that a value is missing."""


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
) -> Analysis:
    """Compare the arms of the table in `path` (CSV or Parquet, one row per unit); `missing`: what missing values mean.

    Raises ExperimentError for a file that is missing or unreadable, and for columns or arms that it lacks.
    """
    from experiments.analysis import analyze

    return analyze(
        read_table(path, arm=arm),
        arm=arm,
        control=control,
        metrics=metrics,
        covariates=covariates,
        expect=expect,
        alpha=alpha,
        missing=missing,
    )


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
