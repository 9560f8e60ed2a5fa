"""The pages for analysts say what is true: their example runs, and every status is explained."""

from __future__ import annotations

import doctest
import textwrap
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from experiments.analysis import Analysis
from experiments.results import Result, Status

PAGES = Path(__file__).resolve().parents[2] / "docs" / "analysts"
READING = (PAGES / "reading-a-result.md").read_text(encoding="utf-8")


def _example() -> str:
    lines = READING.split("## In a notebook")[1].splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


def test_the_example_runs_as_it_stands() -> None:
    rng = np.random.default_rng(3)
    n = 600
    names: dict[str, object] = {
        "frame": pd.DataFrame(
            {
                "segment": rng.choice(["mens", "womens", "none"], n),
                "visit": rng.integers(0, 2, n),
                "spend": rng.gamma(2, 10, n),
                "orders": rng.poisson(1, n) + 1,
                "history": rng.gamma(2, 10, n),
                "history_orders": rng.poisson(2, n) + 1,
                "days": rng.integers(1, 40, n),
                "bought": rng.integers(0, 2, n),
                "wave": rng.choice(["w1", "w2"], n),
                "tier": rng.choice(["gold", "silver"], n),
            }
        )
    }
    exec(compile(_example(), "reading-a-result.md", "exec"), names)
    analysis = names["analysis"]
    assert isinstance(analysis, Analysis)
    assert {result.status for result in analysis.results} <= {"ok", "relative_undefined"}
    assert len(analysis.results) == len(analysis.stratified) == 8


def test_every_status_and_field_is_explained() -> None:
    assert [status for status in get_args(Status) if f"`{status}`" not in READING] == []
    shown = set(Result.__dataclass_fields__) - {"metric", "kind", "arm", "control", "se", "df"}
    assert [name for name in sorted(shown) if f"`{name}`" not in READING] == []


def test_all_fifteen_traps_have_a_row() -> None:
    rows = [line for line in (PAGES / "traps.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) - 1 >= 15
    assert all(len(row.split(" | ")) == 3 for row in rows)


def test_the_examples_in_docstrings_give_what_they_show() -> None:
    from experiments import analysis

    outcome = doctest.testmod(analysis)
    assert outcome.attempted >= 6
    assert outcome.failed == 0
