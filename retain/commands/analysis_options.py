"""What `retain analyze` can be asked: each option with its name, its help, and how its text is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from retain.options import AGAIN, pairs

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet, one row per unit.")]
ArmOption = Annotated[str, typer.Option("--arm", metavar="COLUMN", help="The column that names the arm.")]
ControlOption = Annotated[str, typer.Option("--control", metavar="VALUE", help="The arm that got nothing.")]
MetricOption = Annotated[
    list[str],
    typer.Option(
        "--metric",
        metavar="NAME:KIND",
        help=f"visit:proportion, spend:mean, aov=revenue/orders:ratio or back=days/bought:survival. {AGAIN}",
    ),
]
CovariateOption = Annotated[
    list[str] | None,
    typer.Option("--covariate", metavar="METRIC=COLUMN", help=f"A value from before the test (CUPED). {AGAIN}"),
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
    typer.Option(
        "--strata",
        metavar="COLUMN",
        help=f"Compare within each value of a column known before the test, and put the effects together. {AGAIN}",
    ),
]
SegmentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--segment",
        metavar="COLUMN",
        help=f"Do the effects differ between the values of this column? (Cochran's Q) {AGAIN}",
    ),
]
LookOption = Annotated[
    str | None,
    typer.Option("--look", metavar="K/N[:SHARE]", help="Planned look K of N, at this share of the information."),
]
BayesOption = Annotated[bool, typer.Option("--bayes", help="Add chances to beat control and expected losses.")]
HorizonOption = Annotated[
    float | None, typer.Option("--horizon", metavar="DAYS", help="Survival times count up to so many days.")
]
AdjustOption = Annotated[
    Literal["holm", "dunnett", "hochberg", "bonferroni", "benjamini_hochberg", "benjamini_yekutieli", "none"],
    typer.Option(
        "--adjust",
        metavar="METHOD",
        help="How p-values of several arms are adjusted: holm, dunnett, hochberg, bonferroni, benjamini_hochberg, "
        "benjamini_yekutieli or none.",
    ),
]
WinsoriseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--winsorise", metavar="METRIC=QUANTILE", help=f"Cap at this quantile (0..1) of all arms pooled. {AGAIN}"
    ),
]
LowerIsBetterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lower-is-better", metavar="METRIC", help=f"Less of it is better (complaints, days to order). {AGAIN}"
    ),
]
MarginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--margin", metavar="METRIC=WORSENING", help=f"Is every arm no worse than this? (one-sided 95 %) {AGAIN}"
    ),
]
DeliveredOption = Annotated[
    str | None,
    typer.Option("--delivered", metavar="COLUMN", help="1 where a message arrived: add the effect on the reached."),
]


def columns_of(texts: list[str] | None) -> dict[str, str]:
    """["spend=history"] as {"spend": "history"}. Raises typer.BadParameter for another text."""
    return dict(pairs(texts or (), option="--covariate", expected="METRIC=COLUMN"))


def shares_of(text: str | None) -> dict[str, float] | None:
    """ "A=1,B=2" as {"A": 1.0, "B": 2.0}. Raises typer.BadParameter for another text, and for shares not above 0."""
    if text is None:
        return None
    try:
        shares = {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise typer.BadParameter(f'"{text}" cannot be read; expected A=1,B=1', param_hint="--expect") from None
    if not all(0.0 < share < math.inf for share in shares.values()):
        raise typer.BadParameter("every share must be a number above 0", param_hint="--expect")
    return shares


def quantiles_of(texts: list[str] | None) -> dict[str, float]:
    """["spend=0.999"] as {"spend": 0.999}. Raises typer.BadParameter for another text."""
    expected = "METRIC=QUANTILE with a quantile between 0 and 1, as in spend=0.999"
    quantiles = _numbers(texts, option="--winsorise", expected=expected)
    if not all(0.0 < quantile < 1.0 for quantile in quantiles.values()):
        raise typer.BadParameter(
            f"{', '.join(texts or ())} cannot be read; expected {expected}", param_hint="--winsorise"
        )
    return quantiles


def margins_of(texts: list[str] | None) -> dict[str, float]:
    """["complained=0.002"] as {"complained": 0.002}. Raises typer.BadParameter for another text."""
    return _numbers(texts, option="--margin", expected="METRIC=WORSENING in its unit, as in complained=0.002")


def look_of(text: str | None) -> tuple[int, int, float | None] | None:
    """ "2/4" or "2/4:0.5" as (2, 4, 0.5). Raises typer.BadParameter for another text."""
    if text is None:
        return None
    place, _, share = text.partition(":")
    try:
        number, of = (int(part) for part in place.split("/"))
        return number, of, float(share) if share else None
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" cannot be read; expected K/N such as 2/4, or 2/4:0.5', param_hint="--look"
        ) from None


def _numbers(texts: list[str] | None, *, option: str, expected: str) -> dict[str, float]:
    found = {}
    for name, text in pairs(texts or (), option=option, expected=expected):
        try:
            found[name] = float(text)
        except ValueError:
            raise typer.BadParameter(
                f'"{name}={text}" cannot be read; expected {expected}', param_hint=option
            ) from None
    return found
