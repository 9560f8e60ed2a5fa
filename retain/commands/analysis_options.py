"""What `retain analyze` can be asked: each option with its name, what it takes and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet, one row per unit.")]
ArmOption = Annotated[str, typer.Option("--arm", metavar="COLUMN", help="The column that names the arm.")]
ControlOption = Annotated[str, typer.Option("--control", metavar="VALUE", help="The arm that got nothing.")]
MetricOption = Annotated[
    list[str],
    typer.Option("--metric", metavar="NAME:KIND", help="visit:proportion, spend:mean, aov=revenue/orders:ratio"),
]
CovariateOption = Annotated[
    list[str] | None,
    typer.Option("--covariate", metavar="METRIC=COLUMN", help="A value from before the test (CUPED)."),
]
ExpectOption = Annotated[
    str | None, typer.Option("--expect", metavar="A=1,B=1", help="The planned shares, for the check of the split.")
]
AlphaOption = Annotated[
    float, typer.Option("--alpha", metavar="SHARE", min=0.0001, max=0.5, help="Accepted chance of a false alarm.")
]
MissingOption = Annotated[
    Literal["refuse", "zero", "drop"],
    typer.Option("--missing", metavar="MEANING", help="What a missing value means: refuse, zero or drop (the row)."),
]
StrataOption = Annotated[
    list[str] | None,
    typer.Option("--strata", metavar="COLUMN", help="Compare within its values, known before, and put together."),
]
SegmentsOption = Annotated[
    list[str] | None,
    typer.Option("--segment", metavar="COLUMN", help="Do the effects differ between its values? (Cochran's Q, BH)"),
]
LookOption = Annotated[
    str | None,
    typer.Option("--look", metavar="K/N[:SHARE]", help="Planned look K of N, at this share of the information."),
]
BayesOption = Annotated[bool, typer.Option("--bayes", help="Add chances to beat control and expected losses.")]
HorizonOption = Annotated[
    float | None, typer.Option("--horizon", metavar="DAYS", help="Survival times count up to it.")
]
AdjustOption = Annotated[
    Literal["holm", "dunnett", "hochberg", "bonferroni", "benjamini_hochberg", "benjamini_yekutieli", "none"],
    typer.Option("--adjust", metavar="METHOD", help="How p-values of several arms are adjusted."),
]
WinsoriseOption = Annotated[
    list[str] | None,
    typer.Option("--winsorise", metavar="METRIC=QUANTILE", help="Cap at this quantile (0..1) of all arms pooled."),
]
LowerIsBetterOption = Annotated[
    list[str] | None,
    typer.Option("--lower-is-better", metavar="METRIC", help="Less of it is better (complaints, days to order)."),
]
MarginOption = Annotated[
    list[str] | None,
    typer.Option("--margin", metavar="METRIC=WORSENING", help="Is every arm no worse than this? (one-sided 95 %)"),
]
DeliveredOption = Annotated[
    str | None,
    typer.Option("--delivered", metavar="COLUMN", help="1 where a message arrived: add the effect on the reached."),
]
