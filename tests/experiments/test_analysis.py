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
from experiments.metrics import METRICS, Metric, parse_metric
from experiments.sequential import boundaries
from experiments.strata import post_stratify
from experiments.views import Look, Prior

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
    assert shown.count("<tr>") == 9 + 4  # results, and the arms of the survival metric
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
        ({"metrics": ["arm:mean"]}, "column 'arm': 60 of 60 values are no numbers, the first in row 1"),
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


def test_a_value_that_is_no_number_is_placed_and_never_shown() -> None:
    table = {"arm": ["a", "c", "c"], "x": ["1", "", "ann@example.com"]}
    with pytest.raises(ExperimentError, match="1 of 3 values are no numbers, the first in row 3") as caught:
        analyze(table, arm="arm", control="c", metrics=["x:mean"], missing="drop")
    assert "ann" not in str(caught.value)


def test_a_table_without_rows_is_said_to_have_none() -> None:
    with pytest.raises(ExperimentError, match="the table has no rows; expected one row per unit"):
        analyze({"arm": [], "x": []}, arm="arm", control="c", metrics=["x:mean"])


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


def _tiered(n: int = 2400) -> pd.DataFrame:
    """Three arms; what is bought depends on the tier, and mail works on gold only."""
    rng = np.random.default_rng(8)
    frame = _table(n)
    frame["tier"] = rng.choice(["gold", "silver"], n, p=[0.4, 0.6])
    gold = frame["tier"] == "gold"
    frame["spend"] += np.where(gold, 60.0, 0.0)
    frame["visit"] = rng.random(n) < np.where(gold, 0.5, 0.1) + np.where(gold & (frame["arm"] == "mail"), 0.25, 0.0)
    return frame


def test_strata_are_compared_within_and_gain_precision() -> None:
    frame = _tiered()
    shares = {"mail": 1, "text": 1, "none": 1}
    found = analyze(frame, arm="arm", control="none", metrics=METRIC_TEXTS, strata="tier", expect=shares)
    assert [r.metric for r in found.stratified] == [r.metric for r in found.results]
    assert set(found.srm_strata) == {"gold", "silver"}
    by_name = {(r.metric, r.arm): r for r in found.stratified}
    for plain in found.results:
        within = by_name[plain.metric, plain.arm]
        assert within.status in ("ok", "relative_undefined")
        assert within.se is not None
        assert plain.se is not None
        assert within.se < plain.se * 1.01
    assert by_name["spend", "mail"].method == "post-stratified, normal"
    assert by_name["visit", "mail"].method.startswith("Cochran-Mantel-Haenszel")
    assert by_name["spend", "mail"].control_value == by_name["spend", "text"].control_value
    two = frame[frame["arm"] != "text"]
    pairs = [
        tuple(Moments.from_rows(("spend",), part.loc[part["arm"] == arm, "spend"]) for arm in ("mail", "none"))
        for _, part in two.groupby("tier")
    ]
    only = analyze(two, arm="arm", control="none", metrics=["spend:mean"], strata=["tier"]).stratified[0]
    expected = post_stratify(pairs, column="spend")
    assert expected is not None
    assert (only.difference, only.se, only.p_value) == pytest.approx(
        (expected.difference, expected.se, expected.p_value), rel=1e-9
    )
    crossed = analyze(frame, arm="arm", control="none", metrics=["spend:mean"], strata=["tier", "back"], expect=shares)
    assert set(crossed.srm_strata) == {"gold / 0", "gold / 1", "silver / 0", "silver / 1"}
    adjusted = analyze(
        frame.assign(history=frame["spend"] * 0.8), arm="arm", control="none", metrics=["spend:mean"],
        covariates={"spend": "history"}, strata="tier",
    )  # fmt: skip
    assert adjusted.stratified[0].status == "zero_variance"


def test_a_stratum_without_an_arm_makes_the_arm_incomparable_not_smaller() -> None:
    table = {"arm": ["a", "a", "c", "c", "c", "c"], "tier": list("xxxxyy"), "x": [1.0, 0, 1, 0, 1, 1]}
    for metric in ("x:mean", "x:proportion", "r=x/x:ratio"):
        found = analyze(table, arm="arm", control="c", metrics=[metric], strata="tier", segments="tier")
        assert found.stratified[0].status == "insufficient_data"
        assert found.segments[0].effects[1].result.status == "insufficient_data"
    times = analyze(table | {"d": [1] * 6}, arm="arm", control="c", metrics=["b=d/x:survival"], strata="tier")
    assert times.stratified[0].status == "insufficient_data"


def test_segments_are_explored_behind_one_test_of_their_difference() -> None:
    found = analyze(_tiered(), arm="arm", control="none", metrics=METRIC_TEXTS, segments=["tier", "back"], horizon=20.0)
    reports = {(r.by, r.metric, r.arm): r for r in found.segments}
    assert len(reports) == 2 * 4 * 2
    tier = reports["tier", "visit", "mail"]
    assert tier.differ
    assert tier.best == "gold"
    assert not reports["tier", "visit", "text"].differ
    frame = found.to_frame("segments")
    assert len(frame) == 32
    assert {"by", "segment", "group", "p_adjusted"} <= set(frame)


def test_a_look_shows_its_boundary_and_what_crossed_it() -> None:
    found = analyze(_tiered(), arm="arm", control="none", metrics=["visit:proportion"], look=Look(number=2, of=4))
    look = found.look
    assert look is not None
    assert look.boundary == pytest.approx(boundaries([0.25, 0.5], alpha=0.05)[-1])
    mail = look.results[0]
    result = found.results[0]
    assert mail.crossed is ((result.p_adjusted or 1.0) <= (look.level or 0.0))
    assert mail.low is not None
    assert result.low is not None
    assert mail.always_low < mail.low < result.low
    late = analyze(_tiered(), arm="arm", control="none", metrics=["visit:proportion"], look=Look(number=5, of=4)).look
    assert late is not None
    assert (late.planned, late.boundary, late.results[0].crossed) == (False, None, None)
    early = Look(number=1, of=4, information=0.0)
    nothing = analyze(_tiered(), arm="arm", control="none", metrics=["visit:proportion"], look=early).look
    assert nothing is not None
    assert (nothing.boundary, nothing.results[0].crossed) == (None, False)
    for bad in ({"number": 0, "of": 4}, {"number": 1, "of": 4, "information": 1.5}):
        with pytest.raises(ExperimentError, match="numbers start at 1"):
            Look(**bad)


def test_the_bayesian_view_stands_beside_the_results() -> None:
    frame = _tiered()
    found = analyze(
        frame, arm="arm", control="none", metrics=["visit:proportion", "spend:mean"], bayes=Prior(effect_sd=1.0)
    )
    visit, spend = found.bayes[0], found.bayes[2]
    assert (visit.prior, spend.prior) == ("Beta(1, 1)", "Normal(0, 1)")
    assert visit.chance_to_beat_control > 0.95
    assert visit.mean == pytest.approx(found.results[0].difference, abs=0.005)
    assert abs(spend.mean) < abs(found.results[2].difference or 0.0)
    worse = [Metric("visit", "proportion", ("visit",), higher_is_better=False),
             Metric("spend", "mean", ("spend",), higher_is_better=False)]  # fmt: skip
    flat = analyze(frame, arm="arm", control="none", metrics=["spend:mean"], bayes=Prior()).bayes[0]
    turned = analyze(frame, arm="arm", control="none", metrics=worse, bayes=Prior()).bayes
    assert turned[0].chance_to_beat_control == pytest.approx(1 - visit.chance_to_beat_control)
    assert turned[0].loss_of_arm == visit.loss_of_control
    assert turned[2].chance_to_beat_control == pytest.approx(1 - flat.chance_to_beat_control)
    with pytest.raises(ExperimentError, match="above 0"):
        Prior(a=0)


def test_survival_is_seen_to_a_horizon() -> None:
    found = analyze(_tiered(), arm="arm", control="none", metrics=["back=day/back:survival"], horizon=10, strata="tier")
    view = found.survival[0]
    assert (view.horizon, view.stratified) == (10, True)
    assert found.results[0].method == "restricted mean to 10, Greenwood"
    assert view.log_rank.p_value is not None
    for arm in view.arms:
        assert arm.low is not None
        assert arm.at_horizon is not None
        assert arm.low < arm.at_horizon
    with pytest.raises(ExperimentError, match="horizon"):
        analyze(_tiered(), arm="arm", control="none", metrics=["back=day/back:survival"], horizon=0)


def test_everything_together_is_plain_json_frames_and_html() -> None:
    found = analyze(
        _tiered(), arm="arm", control="none", metrics=METRIC_TEXTS, strata="tier", segments="tier",
        look=Look(number=1, of=2), bayes=Prior(), adjust="dunnett", expect={"mail": 1, "text": 1, "none": 1},
    )  # fmt: skip
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {"stratified", "srm_strata", "segments", "look", "bayes", "survival"} <= set(plain)
    for view in ("results", "stratified", "segments", "look", "bayes", "survival"):
        assert len(found.to_frame(view)) > 0
    with pytest.raises(ExperimentError, match="view"):
        found.to_frame("other")
    shown = found._repr_html_()
    for text in ("Within strata", "Look 1 of 2", "chance to beat control", "stratified log-rank", "Cochran&#x27;s Q"):
        assert text in shown
    bare = analyze(_table(), arm="arm", control="none", metrics=["spend:mean"])
    assert set(bare.to_json()) == {"control", "alpha", "arms", "srm", "results"}
    assert bare.to_frame("look").empty


@pytest.mark.parametrize(
    "adjust", ["dunnett", "hochberg", "bonferroni", "benjamini_hochberg", "benjamini_yekutieli", "none"]
)
def test_the_adjustment_over_arms_can_be_chosen(adjust: str) -> None:
    call = {"arm": "arm", "control": "none", "metrics": ["visit:proportion", "back=day/back:survival"]}
    found = analyze(_tiered(), **call, adjust=adjust)
    for result in found.results:
        assert result.p_value is not None
        assert result.p_adjusted is not None
        most = 3 if adjust == "benjamini_yekutieli" else 2  # two arms, and 1 + 1/2 for any dependence
        assert result.p_value <= result.p_adjusted <= min(1.0, most * result.p_value + 1e-15)
    with pytest.raises(ExperimentError, match="adjust"):
        analyze(_tiered(), **call, adjust="other")


def test_aggregates_give_the_same_strata_segments_and_times() -> None:
    frame = _tiered()
    metrics, columns = METRIC_TEXTS, ("visit", "spend", "orders")

    def moments(part: pd.DataFrame) -> dict[str, Moments]:
        return {
            arm: Moments.from_rows(columns, part.loc[part["arm"] == arm, list(columns)].to_numpy(dtype=float))
            for arm in ("mail", "none", "text")
        }

    tiers = {name: moments(part) for name, part in frame.groupby("tier")}
    times = {
        arm: SurvivalCounts.from_times(part["day"], part["back"])
        for arm, part in sorted(frame.groupby("arm"), key=lambda item: item[0])
    }
    made = analyze_moments(
        moments(frame), control="none", metrics=metrics, times={"back": times}, strata=tiers, segments={"tier": tiers}
    )
    read = analyze(frame, arm="arm", control="none", metrics=metrics, strata="tier", segments="tier")
    assert made.survival[0].arms == read.survival[0].arms
    for one, other in zip(made.results + made.stratified, read.results + read.stratified[:6], strict=True):
        assert (one.metric, one.arm, one.p_value) == (other.metric, other.arm, pytest.approx(other.p_value, rel=1e-9))
    assert [r.differ for r in made.segments] == [r.differ for r in read.segments[:6]]
    without = analyze_moments(moments(frame), control="none", metrics=metrics)
    assert without.results[-1].status == "not_measured"


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

    assert set(dir(experiments)) == {"Analysis", "Look", "Prior", "analyze"}
    assert experiments.Look(number=1, of=2).share == 0.5
    with pytest.raises(AttributeError, match="nothing"):
        _ = experiments.nothing
    code = "from experiments import analyze; import sys; print('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
