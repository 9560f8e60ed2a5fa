"""Customer lifetime: BG/NBD (is the customer alive, how often will he buy) and Gamma-Gamma (for how much).

Source: Fader, Hardie and Lee 2005, "Counting your customers the easy way" (BG/NBD); Fader and Hardie 2013, "The
Gamma-Gamma model of monetary value". Checked by tests/reference/test_clv.py on the 1/10 sample of CDNOW.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.errors import ExperimentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


_NEAR_POISSON = 500.0
_MIDPOINTS = 200


@dataclass(frozen=True, slots=True)
class BgNbd:
    """Fitted BG/NBD: purchase rates Gamma(r, rate alpha), drop-out chances Beta(a, b). Time in the unit of the data."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float

    def p_alive(self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Array:
        """Chance that each customer is still alive at T: x repeat purchases, the last at t_x (x = 0: always 1).

        Source: Fader, Hardie and Lee 2008, "Computing P(alive) using the BG/NBD model", eq. 1.
        """
        import numpy as np

        count, last, age = _history(x, t_x, T)
        safe = np.maximum(count, 1.0)
        odds = np.log(self.a / (self.b + safe - 1.0)) + (self.r + count) * np.log(
            (self.alpha + age) / (self.alpha + last)
        )
        alive: Array = np.where(count > 0, 1.0 / (1.0 + np.exp(np.minimum(odds, 700.0))), 1.0)
        return alive

    def expected_orders(self, t: ArrayLike, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Array:
        """Expected purchases of each customer in the next t (Fader, Hardie and Lee 2005, eq. 10).

        Where customers hardly differ in their rate (r above 500: near-Poisson fits) the hypergeometric function
        overflows; there the same mean is integrated over the chance to leave. Test: tests/reference/test_clv.py.
        Raises: ExperimentError at a = 1 exactly, where the formula has no value, and for an impossible history.
        """
        import numpy as np
        from scipy.special import hyp2f1

        count, last, age = _history(x, t_x, T)
        ahead = np.asarray(t, dtype=np.float64)
        if self.a == 1.0:
            raise ExperimentError("BG/NBD: expected orders are not defined at a = 1 exactly")
        share = ahead / (self.alpha + age + ahead)
        with np.errstate(over="ignore", invalid="ignore"):
            series = hyp2f1(self.r + count, self.b + count, self.a + self.b + count - 1.0, share)
            left = ((self.alpha + age) / (self.alpha + age + ahead)) ** (self.r + count)
            orders = np.asarray((self.a + self.b + count - 1.0) / (self.a - 1.0) * (1.0 - left * series))
        ahead, count, age, last, orders = np.broadcast_arrays(ahead, count, age, last, orders)
        hard = ~np.isfinite(orders) | (self.r + count > _NEAR_POISSON)
        if hard.any():
            orders = np.where(hard, 0.0, orders)
            orders[hard] = self._integrated(ahead[hard], count[hard], age[hard])
        found: Array = orders * self.p_alive(count, last, age)
        return found

    def _integrated(self, ahead: Array, count: Array, age: Array) -> Array:
        """Mean purchases of customers who are alive: E (1 - (1 + p w)^-(r + x)) / p, w = t / (alpha + T), p the chance
        to leave, Beta(a, b + x), by midpoints of its distribution (200 of them: within 2e-4)."""
        import numpy as np
        from scipy.special import betaincinv

        places = (np.arange(_MIDPOINTS) + 0.5) / _MIDPOINTS
        counts, place = np.unique(count, return_inverse=True)
        leave = np.maximum(betaincinv(self.a, self.b + counts[:, None], places), 1e-300)[place]
        reach = np.log1p(leave * (ahead / (self.alpha + age))[:, None])
        means: Array = (-np.expm1(-(self.r + count)[:, None] * reach) / leave).mean(axis=1)
        return means


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """Fitted Gamma-Gamma: order values Gamma(p, nu) with nu ~ Gamma(q, gamma)."""

    p: float
    q: float
    gamma: float
    log_likelihood: float

    def expected_value(self, frequency: ArrayLike, mean_value: ArrayLike) -> Array:
        """Expected value of each customer's orders, shrunk towards the population's (Fader and Hardie 2013, eq. 5).

        Raises: ExperimentError where q <= 1: the population's mean does not exist.
        """
        import numpy as np

        if self.q <= 1.0:
            raise ExperimentError(f"Gamma-Gamma: q = {self.q:.3f} leaves no finite mean value; use observed means")
        count = np.asarray(frequency, dtype=np.float64)
        seen = np.asarray(mean_value, dtype=np.float64)
        value: Array = self.p * (self.gamma + count * seen) / (self.p * count + self.q - 1.0)
        return value


def fit_bgnbd(x: ArrayLike, t_x: ArrayLike, T: ArrayLike, weights: ArrayLike | None = None) -> BgNbd:
    """Maximum likelihood of BG/NBD from repeat purchases x, time of the last t_x and age T (t_x = 0 where x = 0).

    `weights`: how many customers share a row. Raises: ExperimentError where the history is impossible or too short.
    """
    import numpy as np

    count, last, age = _history(x, t_x, T)
    weight = np.ones_like(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if count.size == 0 or not (count > 0).any() or (age <= 0).all():
        raise ExperimentError("BG/NBD: needs customers with repeat purchases over some time; load more history")
    scale = float(np.max(age))  # fitted in units of the longest age, so that starting values suit days and weeks alike

    def loss(logs: Array) -> float:
        return -float(weight @ _bgnbd_terms(np.exp(logs), count, last / scale, age / scale)) / float(weight.sum())

    starts = [np.log([0.5, 0.1, 0.5, 2.0]), np.log([1.0, 0.3, 1.0, 3.0])]
    logs, least = _minimise(loss, starts)
    r, alpha, a, b = np.exp(logs).tolist()
    # the likelihood of x purchases scales with the unit of time to the power -x
    total = -least * float(weight.sum()) - float(weight @ count) * float(np.log(scale))
    return BgNbd(r, alpha * scale, a, b, total)


def fit_gamma_gamma(frequency: ArrayLike, mean_value: ArrayLike, weights: ArrayLike | None = None) -> GammaGamma:
    """Maximum likelihood of Gamma-Gamma from orders per customer and their mean value (rows without are left out).

    Raises: ExperimentError where fewer than two customers have orders of positive value.
    """
    import numpy as np

    count = np.asarray(frequency, dtype=np.float64).ravel()
    value = np.asarray(mean_value, dtype=np.float64).ravel()
    weight = np.ones_like(count) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    known = (count > 0) & (value > 0)
    if known.sum() < 2:
        raise ExperimentError("Gamma-Gamma: needs at least two customers with orders of positive value")
    count, value, weight = count[known], value[known], weight[known]
    scale = float(np.average(value, weights=weight))

    def loss(logs: Array) -> float:
        return -float(weight @ _gamma_gamma_terms(np.exp(logs), count, value / scale)) / float(weight.sum())

    logs, least = _minimise(loss, [np.log([2.0, 3.0, 1.0]), np.log([6.0, 4.0, 0.5])])
    p, q, gamma = np.exp(logs).tolist()
    total = -least * float(weight.sum()) - float(weight.sum()) * float(np.log(scale))
    return GammaGamma(p, q, gamma * scale, total)


def _bgnbd_terms(parameters: Array, x: Array, t_x: Array, T: Array) -> Array:
    """Log-likelihood per row (Fader, Hardie and Lee 2005, eq. 6, in logs)."""
    import numpy as np
    from scipy.special import betaln, gammaln

    r, alpha, a, b = parameters
    counts, place = np.unique(x, return_inverse=True)  # few distinct counts: the special functions are the cost
    later = np.maximum(counts, 1.0)
    shared = gammaln(r + counts) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
    stays, leaves = betaln(a, b + counts), betaln(a + 1.0, b + later - 1.0)
    alive = stays[place] - (r + x) * np.log(alpha + T)
    gone = np.where(x > 0, leaves[place] - (r + x) * np.log(alpha + t_x), -np.inf)
    terms: Array = shared[place] + np.logaddexp(alive, gone)
    return terms


def _gamma_gamma_terms(parameters: Array, x: Array, value: Array) -> Array:
    """Log-likelihood per row (Fader and Hardie 2013, eq. 1a)."""
    import numpy as np
    from scipy.special import gammaln

    p, q, gamma = parameters
    terms: Array = (
        gammaln(p * x + q)
        - gammaln(p * x)
        - gammaln(q)
        + q * np.log(gamma)
        + (p * x - 1.0) * np.log(value)
        + p * x * np.log(x)
        - (p * x + q) * np.log(gamma + x * value)
    )
    return terms


def _minimise(loss: Any, starts: list[Array]) -> tuple[Array, float]:
    """The first start that converges (else the best), in the logs of the parameters, within what can be computed."""
    import numpy as np
    from scipy.optimize import minimize

    best: tuple[Array, float] | None = None
    for start in starts:
        found = minimize(loss, start, method="L-BFGS-B", bounds=[(-12.0, 12.0)] * start.size, options={"ftol": 1e-12})
        if np.isfinite(found.fun) and (best is None or found.fun < best[1]):
            best = (found.x, float(found.fun))
        if found.success and best is not None:
            break
    if best is None:
        raise ExperimentError("the likelihood could not be maximised; check the purchase history for impossible values")
    return best


def _history(x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> tuple[Array, Array, Array]:
    import numpy as np

    count, last, age = (np.asarray(values, dtype=np.float64) for values in np.broadcast_arrays(x, t_x, T))
    if (count < 0).any() or (last < 0).any() or (last > age + 1e-9).any() or not np.isfinite(count + last + age).all():
        raise ExperimentError("purchase history: needs 0 <= t_x <= T and x >= 0 for every customer, all finite")
    return count, last, age
