"""Any experiment's table is analysed: frames, Arrow tables, mappings; gaps and odd values are named, not guessed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from experiments import analyze
from experiments.aggregates import Moments, SurvivalCounts
from experiments.analysis import analyze_moments, needed_columns
from experiments.compare_survival import compare_survival
from experiments.errors import ExperimentError
from experiments.metrics import METRICS, parse_metric

METRIC_TEXTS = ["visit:proportion", "spend:mean", "aov=spend/orders:ratio", "back=day/back:survival"]


def _table(n: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    arm = rng.choice(["mail", "text", "none"], n)
    orders = rng.poisson(1.5, n) + 1
    return pd.DataFrame(
        {
            "arm": arm,
            "visit": rng.random(n) < np.where(arm == "mail", 0.4, 0.3),
            "spend": orders * rng.gamma(2, 10, n),
            "orders": orders,
            "history": rng.gamma(2, 10, n),
            "day": np.minimum(rng.geometric(0.05, n), 30),
            "back": rng.integers(0, 2, n),
        }
    )


def test_every_kind_of_metric_is_compared_for_every_arm() -> None:
    analysis = analyze(
        _table(), arm="arm", control="none", metrics=METRIC_TEXTS, covariates={"spend": "history"},
        expect={"mail": 1, "text": 1, "none": 1},
    )  # fmt: skip
    names = [(result.metric, result.arm) for result in analysis.results]
    assert names == [(metric, arm) for metric in ("visit", "spend", "aov", "back") for arm in ("mail", "text")]
    assert {result.status for result in analysis.results} <= {"ok", "relative_undefined"}
    assert sum(analysis.arms.values()) == 900
    assert analysis.srm.healthy
    plain = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert set(plain["srm"]) == {"chi2", "df", "p_value"}
    assert plain["arms"]["mail"]["n"] == analysis.arms["mail"]


def test_frames_arrow_tables_and_mappings_give_the_same_analysis() -> None:
    import pyarrow as pa

    frame = _table()
    sources = [frame, pa.Table.from_pandas(frame), {name: frame[name].to_numpy() for name in frame}]
    analyses = [analyze(source, arm="arm", control="none", metrics=METRIC_TEXTS) for source in sources]
    assert analyses[0] == analyses[1] == analyses[2]


def test_the_order_of_rows_does_not_matter() -> None:
    frame = _table()
    first = analyze(frame, arm="arm", control="none", metrics=METRIC_TEXTS)
    second = analyze(frame.sample(frac=1.0, random_state=1), arm="arm", control="none", metrics=METRIC_TEXTS)
    for one, other in zip(first.results, second.results, strict=True):
        assert one.p_value == pytest.approx(other.p_value, rel=1e-9)
        assert one.difference == pytest.approx(other.difference, rel=1e-9, abs=1e-12)


def test_a_notebook_gets_a_frame_and_a_table() -> None:
    analysis = analyze(_table(), arm="arm", control="none", metrics=METRIC_TEXTS)
    assert analysis.to_frame().shape[0] == 8
    shown = analysis._repr_html_()
    assert shown.count("<tr>") == 9
    assert "not tested" in shown
    assert "<b>" not in analyze(
        pd.DataFrame({"arm": ["<b>", "c"] * 5, "spend": range(10)}), arm="arm", control="c", metrics=["spend:mean"],
        expect={"<b>": 1, "c": 1},
    )._repr_html_()  # fmt: skip


def test_missing_values_are_refused_until_their_meaning_is_said() -> None:
    frame = _table()
    frame.loc[frame.index[:90], "spend"] = np.nan
    with pytest.raises(ExperimentError, match=r"'spend': 90 of 900 values are missing"):
        analyze(frame, arm="arm", control="none", metrics=["spend:mean"])
    zero = analyze(frame, arm="arm", control="none", metrics=["spend:mean"], missing="zero")
    drop = analyze(frame, arm="arm", control="none", metrics=["spend:mean", "visit:proportion"], missing="drop")
    assert zero.results[0].n_arm == zero.arms["mail"]
    kept = frame.dropna()
    assert drop.results[0].n_arm == (kept["arm"] == "mail").sum()
    assert drop.results[0].arm_value == pytest.approx(kept.loc[kept["arm"] == "mail", "spend"].mean())
    assert drop.results[2].n_arm == drop.arms["mail"]


def test_capping_is_pooled_over_the_arms() -> None:
    frame = _table()
    frame.loc[0, "spend"] = 1e6
    capped = analyze(frame, arm="arm", control="none", metrics=["spend:mean"], winsorise={"spend": 0.99})
    cap = np.quantile(frame["spend"], 0.99)
    expected = frame["spend"].clip(upper=cap).groupby(frame["arm"]).mean()
    assert capped.results[0].arm_value == pytest.approx(expected["mail"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": "nobody"}, "control 'nobody' is not among the arms"),
        ({"arm": "group"}, "no column 'group'"),
        ({"metrics": ["spent:mean"]}, "no column 'spent'"),
        ({"metrics": []}, "at least one"),
        ({"metrics": ["spend:mean", "spend:mean"]}, "no name twice"),
        ({"metrics": ["arm:mean"]}, "not numeric"),
        ({"metrics": ["spend:proportion"]}, "0 and 1"),
        ({"metrics": ["back=day/spend:survival"]}, "survival needs 1"),
        ({"covariates": {"spent": "history"}}, "'spent' is not asked for"),
        ({"alpha": 1.5}, "alpha"),
        ({"expect": {"mail": -1}}, "expected shares"),
        ({"winsorise": {"spend": 1.5}}, "quantile"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, message: str) -> None:
    call = {"arm": "arm", "control": "none", "metrics": ["spend:mean"]} | change
    with pytest.raises(ExperimentError, match=message):
        analyze(_table(60), **call)


def test_odd_columns_are_named() -> None:
    with pytest.raises(ExperimentError, match="infinite"):
        analyze({"arm": ["a", "c"], "x": [np.inf, 1.0]}, arm="arm", control="c", metrics=["x:mean"])
    with pytest.raises(ExperimentError, match="rows have no value"):
        analyze({"arm": ["a", None, "c"], "x": [1, 2, 3]}, arm="arm", control="c", metrics=["x:mean"])
    with pytest.raises(ExperimentError, match="negative"):
        analyze({"arm": ["a", "c"], "d": [-1, 1], "e": [1, 1]}, arm="arm", control="c", metrics=["b=d/e:survival"])
    with pytest.raises(ExperimentError, match="cannot read a table"):
        analyze(7, arm="arm", control="c", metrics=["x:mean"])


def test_numbers_as_text_decimals_and_numeric_arms_are_read() -> None:
    from decimal import Decimal

    table = {"arm": [1.0, 1, 0, 0], "x": ["1", "2", "3", "5"], "y": [Decimal(1), Decimal(2), Decimal(3), Decimal(5)]}
    analysis = analyze(pd.DataFrame(table), arm="arm", control="0", metrics=["x:mean", "y:mean"])
    assert [result.difference for result in analysis.results] == [-2.5, -2.5]


def test_aggregates_from_a_database_give_the_same_results() -> None:
    frame = _table()
    metrics, covariates = METRIC_TEXTS[:3], {"spend": "history"}
    columns = needed_columns(metrics, covariates)
    assert columns == ("visit", "spend", "history", "orders")
    moments = {
        name: Moments.from_rows(columns, part[list(columns)].to_numpy(dtype=float))
        for name, part in sorted(frame.groupby("arm"), key=lambda item: item[0])
    }
    shares = {"mail": 1.0, "text": 1.0, "none": 1.0}
    made = analyze_moments(moments, control="none", metrics=metrics, covariates=covariates, expect=shares)
    read = analyze(frame, arm="arm", control="none", metrics=metrics, covariates=covariates, expect=shares)
    assert (made.arms, made.srm) == (read.arms, read.srm)
    for one, other in zip(made.results, read.results, strict=True):
        assert (one.metric, one.arm, one.method) == (other.metric, other.arm, other.method)
        assert (one.p_value, one.difference) == pytest.approx((other.p_value, other.difference), rel=1e-9)


def test_times_are_compared_with_a_status_where_they_cannot_be() -> None:
    metric = METRICS["time_to_repurchase"]
    some = SurvivalCounts.from_times([3, 5, 9], [1, 1, 0])
    assert compare_survival(metric, {"a": some}, control="c")[0].status == "no_control"
    assert (
        compare_survival(metric, {"a": some, "c": SurvivalCounts.empty()}, control="c")[0].status == "insufficient_data"
    )
    never = SurvivalCounts.from_times([9, 9], [0, 0])
    assert compare_survival(metric, {"a": never, "c": never}, control="c")[0].status == "zero_variance"
    result = compare_survival(metric, {"a": some, "c": never}, control="c", horizon=8.0)[0]
    assert result.method == "restricted mean to 8, Greenwood"
    assert result.difference == pytest.approx((3 + 5 + 8) / 3 - 8)
    assert parse_metric("back=days/bought:survival").kind == "survival"


def test_the_package_hands_out_analyze_lazily() -> None:
    import experiments

    assert set(dir(experiments)) == {"Analysis", "analyze"}
    with pytest.raises(AttributeError, match="nothing"):
        _ = experiments.nothing
    code = "from experiments import analyze; import sys; print('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
