"""BG/NBD on real purchases (CDNOW): the published example, and orders that then really came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.clv import BgNbd, fit_bgnbd, fit_gamma_gamma

ORDERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdnow" / "orders.csv"
# Fader, Hardie and Lee 2005, table 2: the 1/10 sample of CDNOW, weeks
PUBLISHED = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426, log_likelihood=-9582.4)


def test_the_published_customer_is_reproduced() -> None:
    # customer 0001: 2 repeat orders, the last in week 30.43 of 38.86; 1.226 orders expected in the next 39 weeks
    assert PUBLISHED.expected_orders(39.0, 2, 30.43, 38.86) == pytest.approx(1.226, abs=5e-4)


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    """Distinct purchase days of every CDNOW customer: x, t_x, T in weeks until 1997-09-30, and those of the 39 weeks after."""
    if not ORDERS.exists():
        pytest.skip("needs ../shared/data/cdnow/orders.csv")
    orders = pd.read_csv(ORDERS, parse_dates=["ordered_at"], dtype={"customer_id": str})
    cut = pd.Timestamp("1997-09-30")
    per_day = orders.groupby(["customer_id", "ordered_at"], as_index=False)["amount"].sum()
    before, after = per_day[per_day.ordered_at <= cut], per_day[per_day.ordered_at > cut]
    first = before.groupby("customer_id").ordered_at
    frame = pd.DataFrame({"x": first.size() - 1, "t_x": (first.max() - first.min()).dt.days / 7})
    frame["T"] = (cut - first.min()).dt.days / 7
    later = before[before.ordered_at > before.customer_id.map(first.min())]
    frame["value"] = later.groupby("customer_id").amount.mean().reindex(frame.index).fillna(0.0)
    frame["next"] = after.groupby("customer_id").size().reindex(frame.index).fillna(0)
    return frame


def test_the_fit_lies_where_the_published_sample_does(history: pd.DataFrame) -> None:
    """The sample's members are not in the data; ten disjoint tenths scatter around the published figures."""
    fits = [fit_bgnbd(part.x, part.t_x, part["T"]) for part in (history.iloc[i::10] for i in range(10))]
    for name in ("r", "alpha", "a", "b", "log_likelihood"):
        values = np.array([getattr(fit, name) for fit in fits])
        assert abs(getattr(PUBLISHED, name) - values.mean()) < 2.0 * values.std(ddof=1), name


def test_expected_orders_come_true(history: pd.DataFrame) -> None:
    fit = fit_bgnbd(history.x, history.t_x, history["T"])
    expected = fit.expected_orders(39.0, history.x, history.t_x, history["T"])
    # 16,873 expected, 19,684 came: the whole file bought more in 1998 than a stationary model foresees
    assert expected.sum() == pytest.approx(16_873, rel=0.002)
    assert expected.sum() == pytest.approx(history.next.sum(), rel=0.15)
    # by past orders, where there are enough customers: the model must not only be right in sum
    by_count = pd.DataFrame({"x": history.x, "expected": expected, "next": history.next}).groupby("x").mean()
    assert np.corrcoef(by_count.expected[:6], by_count.next[:6])[0, 1] > 0.98
    alive = fit.p_alive(history.x, history.t_x, history["T"])
    assert 0.0 <= alive.min() <= alive.max() <= 1.0


def test_order_values_of_repeat_buyers_are_fitted(history: pd.DataFrame) -> None:
    buyers = history[(history.x > 0) & (history.value > 0)]
    fit = fit_gamma_gamma(buyers.x, buyers.value)
    # Fader and Hardie 2013 report p 6.25, q 3.74, gamma 15.44 for the 1/10 sample
    assert fit.q > 1.0
    population = fit.p * fit.gamma / (fit.q - 1.0)
    assert population == pytest.approx(buyers.value.mean(), rel=0.06)


@pytest.mark.parametrize(("a", "b"), [(0.8, 2.5), (2.0, 5.0), (0.1, 1.0), (5.0, 1e5)])
def test_orders_of_near_poisson_customers_continue_those_of_the_formula(a: float, b: float) -> None:
    """On either side of r = 500 the formula and the integral agree: what is computed differs, the mean does not."""
    history = (np.array([0, 1, 3, 10]), np.array([0.0, 10.0, 20.0, 60.0]), np.full(4, 70.0))
    below, above = (BgNbd(r, r * 10.0, a, b, 0.0).expected_orders(30.0, *history) for r in (489.9, 500.1))
    assert above == pytest.approx(below, rel=1e-3)


def test_a_fit_in_which_all_buy_at_one_rate_has_finite_orders_of_that_rate() -> None:
    """r = 160,000 was fitted to a shop whose customers were all alike; the hypergeometric function overflows there."""
    model = BgNbd(1.6e5, 1.6e6, 0.5, 1e7, 0.0)  # hardly anybody leaves: a tenth of a purchase a day
    orders = model.expected_orders(90.0, np.array([0, 5]), np.array([0.0, 60.0]), np.array([70.0, 70.0]))
    assert orders == pytest.approx([9.0, 9.0], rel=1e-3)
    leaving = BgNbd(1.6e5, 1.6e6, 0.5, 3.0, 0.0).expected_orders(90.0, 4, 65.0, 70.0)
    assert np.isfinite(leaving)
    assert 0.0 < float(leaving) < 9.0
