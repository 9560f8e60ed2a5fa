"""The score interval: its constrained estimate is the maximum of the likelihood, and it agrees with published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from experiments.proportions import Counts, _constrained_share, newcombe, score_interval, score_test


@pytest.mark.parametrize("difference", [-0.3, -0.05, 0.01, 0.0788, 0.4])
def test_the_constrained_share_maximises_the_likelihood(difference: float) -> None:
    arm, control = Counts(245, 1010), Counts(200, 1000)
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)

    def loss(share: float) -> float:
        p = share + difference
        return -(245 * math.log(p) + 765 * math.log(1 - p) + 200 * math.log(share) + 800 * math.log(1 - share))

    best = minimize_scalar(loss, bounds=(low + 1e-9, high - 1e-9), method="bounded", options={"xatol": 1e-12}).x
    assert _constrained_share(arm, control, difference) == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize(
    ("arm", "control", "score", "hybrid"),
    [  # Newcombe 1998 (Statistics in Medicine 17:873-890), table II: methods 6 (Miettinen-Nurminen) and 10
        (Counts(56, 70), Counts(48, 80), (0.0528, 0.3382), (0.0524, 0.3339)),
        (Counts(9, 10), Counts(3, 10), (0.1700, 0.8406), (0.1705, 0.8090)),
        (Counts(5, 56), Counts(0, 29), (-0.0326, 0.1933), (-0.0381, 0.1926)),
        (Counts(0, 10), Counts(0, 10), (-0.2879, 0.2879), (-0.2775, 0.2775)),
        (Counts(10, 10), Counts(0, 20), (0.7156, 1.0), (0.6791, 1.0)),
    ],
)
def test_published_intervals_are_reproduced(arm: Counts, control: Counts, score: tuple, hybrid: tuple) -> None:
    np.testing.assert_allclose(score_interval(arm, control), score, atol=6e-5)
    np.testing.assert_allclose(newcombe(arm, control), hybrid, atol=6e-5)


def test_interval_and_test_agree() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        n = rng.integers(2, 300, size=2)
        arm, control = (Counts(int(rng.integers(0, size + 1)), int(size)) for size in n)
        if arm.successes + control.successes in (0, arm.n + control.n):
            continue
        low, high = score_interval(arm, control)
        assert low <= arm.share - control.share <= high
        p = score_test(arm, control).p_value
        if abs(p - 0.05) > 1e-6:
            assert (low > 0 or high < 0) == (p < 0.05)
