"""The table of comparisons, as measurements and analyses print it."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.results import Result
from retain.results import show_results


def shown(capsys: pytest.CaptureFixture[str], **fields: Any) -> str:
    """The row of one result."""
    result = Result(metric="orders", kind="mean", arm="a", control="c", n_arm=9, n_control=9, **fields)
    show_results([result.to_json()])
    return next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("orders"))


def test_a_result_without_a_relative_lift_is_shown_with_its_method(capsys: pytest.CaptureFixture[str]) -> None:
    row = shown(
        capsys, difference=0.5, low=-0.25, high=1.25, p_value=0.19, method="Welch t", status="relative_undefined"
    )
    assert row.split() == ["orders", "a", "–", "–", "0.5", "-0.25", "to", "+1.25", "–", "0.19", "Welch", "t"]


def test_the_adjusted_p_is_shown_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert " 0.03 " in shown(capsys, p_value=0.01, p_adjusted=0.03, method="Welch t")


def test_a_result_without_a_test_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, method="Welch t", status="zero_variance").split()[-1] == "zero_variance"
