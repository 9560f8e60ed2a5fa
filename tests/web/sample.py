"""One measured campaign as plain JSON, with everything a report can show; the numbers are invented and agree."""

from __future__ import annotations

from typing import Any

ARMS = ("double-points", "we-miss-you", "deep-discount")
DIFF = """--- campaigns/book/winback-demo.yaml
+++ campaigns/book/winback-demo.yaml
@@ -21,3 +21,3 @@
   double-points:
-    weight: 25%
+    weight: 90%
     offer: double-points
"""


def result(metric: str, kind: str, arm: str, values: tuple[float, float, float, float], **more: Any) -> dict[str, Any]:
    """A row of `measure --json`: values are those of arm and control, and the interval of their difference."""
    arm_value, control_value, low, high = values
    row = {
        "metric": metric,
        "kind": kind,
        "arm": arm,
        "control": "control",
        "n_arm": 2000,
        "n_control": 2000,
        "arm_value": arm_value,
        "control_value": control_value,
        "difference": arm_value - control_value,
        "low": low,
        "high": high,
        "p_value": 0.0002,
        "p_adjusted": 0.0004,
        "relative_lift": arm_value / control_value - 1 if control_value else None,
        "relative_low": low / control_value if control_value else None,
        "relative_high": high / control_value if control_value else None,
        "method": "Welch t" if kind == "mean" else "score",
        "status": "ok" if control_value else "relative_undefined",
    }
    return row | more


def reason(
    gate: str, code: str, value: float | None, threshold: float | None, passed: bool | None, **more: Any
) -> dict[str, Any]:
    """A check of a decision."""
    return {
        "gate": gate,
        "code": code,
        "value": value,
        "threshold": threshold,
        "passed": passed,
        "text": f"about {code}",
        "arm": None,
        "metric": None,
    } | more


def measurement() -> dict[str, Any]:
    """What `measure --json` gives."""
    return {
        "campaign": "winback-demo",
        "experiment": "winback-demo:1",
        "as_of": "2026-04-04T09:00:00+00:00",
        "primary": "repurchase",
        "arms": {
            **{arm: {"assigned": 2000, "mature": 2000, "reached": 1980} for arm in ARMS},
            "control": {"assigned": 2000, "mature": 2000, "reached": 0},
        },
        "health": {"srm_p": 0.37, "contamination": 0.0, "balance_p": None, "odd_thing": 1234.0},
        "results": [
            result("repurchase", "proportion", "double-points", (0.149, 0.109, 0.019, 0.061)),
            result("repurchase", "proportion", "we-miss-you", (0.099, 0.109, -0.029, 0.009), p_adjusted=0.285),
            result("repurchase", "proportion", "deep-discount", (0.172, 0.109, 0.042, 0.084), p_adjusted=1e-6),
            result("margin", "mean", "double-points", (3.40, 2.63, 0.21, 1.33)),
            result("margin", "mean", "deep-discount", (1.07, 2.63, -1.98, -1.13)),
            result("orders", "mean", "double-points", (0.168, 0.122, 0.022, 0.070)),
            result("unsubscribed", "proportion", "double-points", (0.0019, 0.0, 0.0, 0.005)),
            result("complained", "proportion", "double-points", (0.0, 0.0, 0.0, 0.0))
            | {
                "difference": None,
                "low": None,
                "high": None,
                "p_value": None,
                "p_adjusted": None,
                "status": "zero_variance",
            },
        ],
        "margin": [result("margin", "mean", "double-points", (3.38, 2.63, 0.19, 1.31))],
    }


def design() -> dict[str, Any]:
    """What Design.to_json gives, as far as a report uses it."""
    return {
        "experiment_id": "winback-demo:1",
        "campaign": "winback-demo",
        "weights": [*([arm, 0.25] for arm in ARMS), ["control", 0.25]],
        "primary": "repurchase",
        "control": "control",
        "horizon_days": 30.0,
        "minimum_effect": {"value": 0.015, "kind": "absolute"},
        "guardrails": [
            {"metric": "unsubscribed", "max_increase_abs": 0.015, "max_decrease_abs": None},
            {"metric": "margin", "max_increase_abs": None, "max_decrease_abs": 0.5},
        ],
        "looks": 1,
        "alpha": 0.05,
        "power": 0.8,
        "hypothesis": "Double points bring quiet customers back",
    }


def decision() -> dict[str, Any]:
    """What Verdict.to_json gives, with the decision's id."""
    reasons = [
        reason("integrity", "srm_assigned", 0.37, 0.001, True),
        reason("integrity", "balance", None, 0.001, None),
        reason("integrity", "contamination", 0.0, 0.01, True),
        reason("maturity", "information", 1.0, 0.95, True),
        reason("size", "floor", 2000.0, 350.0, True),
        reason("efficacy", "adjusted_p", 0.0004, 0.05, True, arm="double-points", metric="repurchase"),
        reason("practical", "minimum_effect", 0.04, 0.015, True, arm="double-points", metric="repurchase"),
        reason("margin", "incremental_margin", 0.53, 0.0, True, arm="double-points", metric="margin"),
        reason("harm", "noninferior", 0.0043, 0.015, True, arm="double-points", metric="unsubscribed"),
        reason("harm", "significantly_worse", 0.011, 0.05, True, arm="double-points", metric="revenue"),
        reason("efficacy", "adjusted_p", 1e-6, 0.05, True, arm="deep-discount", metric="repurchase"),
        reason("margin", "incremental_margin", -1.74, 0.0, False, arm="deep-discount", metric="margin"),
        reason("choice", "expected_loss", 0.0, 0.0015, True, arm="double-points"),
        reason("shrinkage", "shrunk_lift", 0.021, 0.0, True, arm="double-points"),
        reason("feedback", "fixed_split", None, None, True),
    ]
    return {
        "id": "d-1",
        "verdict": "promote",
        "arm": "double-points",
        "reasons": reasons,
        "expected_lift_shrunk": 0.021,
        "rule_version": "1",
    }


def full_report() -> dict[str, Any]:
    """Everything a report can be given."""
    arms = {
        arm: counts | {"offer": "double-points", "steps": ["email, else push, sms"]}
        for arm, counts in measurement()["arms"].items()
    }
    return measurement() | {
        "arms": arms,
        "description": "Bring back customers who went quiet",
        "owner": "crm",
        "currency": "EUR",
        "design": design(),
        "decision": decision(),
        "funnel": {arm: {"sent": 1980, "skipped": {"suppressed": 12, "no_zone": 8}} for arm in ARMS},
        "diff": DIFF,
        "changed_files": ["campaigns/book/winback-demo.yaml"],
        "truth": {"double-points": {"lift": 0.045, "margin": 0.9}, "we-miss-you": 0.0, "deep-discount": {"lift": 0.2}},
    }


def readings() -> dict[str, Any]:
    """What a measurement holds beside its results: every reading that a report shows."""
    curve = [[day, round(1.0 - 0.009 * day, 4)] for day in range(1, 31)]
    slow = [[day, round(1.0 - 0.005 * day, 4)] for day in range(1, 31)]
    arms = {arm: _times(2000, curve if arm != "control" else slow) for arm in (*ARMS, "control")}
    effects = [
        _effect("gold", 0.09, group="persuadables"),
        _effect("member", 0.01),
        _effect("silver", -0.02, group="sleeping dogs"),
    ]
    return {
        "survival": {
            "metric": "time_to_repurchase",
            "unit": "days",
            "horizon_days": 30.0,
            "waves": 2,
            "arms": arms,
            "log_rank": {"chi2": 31.2, "df": 3, "p_value": 7e-7},
            "rmst": [
                result("time_to_repurchase", "survival", arm, (26.1, 27.8, -2.4, -1.0), status="relative_undefined")
                for arm in ARMS
            ],
        },
        "segments": [
            _segments("value_tier", "double-points", effects, q=14.2, p=0.0008),
            _segments("rfm_m", "double-points", [_effect(str(n), 0.04) for n in range(1, 6)], q=2.1, p=0.71),
        ],
        "bayesian": [
            {
                "metric": "repurchase",
                "arm": "double-points",
                "prior": prior,
                "mean": 0.039,
                "low": 0.014,
                "high": 0.064,
                "chance_to_beat_control": 0.9987,
                "loss_of_arm": 0.00001,
                "loss_of_control": 0.039,
            }
            for prior in ("Beta(1, 1) for both shares", "normal, mean 0, sd 0.02 (7 past effects)")
        ],
        "winsorised": {
            "quantile": 0.999,
            "caps": {"revenue": 312.5},
            "customers": {"revenue": 8},
            "results": [result("revenue", "mean", arm, (11.2, 10.1, 0.3, 1.9)) for arm in ARMS],
        },
        "waves": [
            {
                "as_of": f"2026-03-{day:02d}T09:00:00+00:00",
                "assigned": dict.fromkeys((*ARMS, "control"), 1000),
                "weights": dict.fromkeys((*ARMS, "control"), 0.25),
                "mature": day < 9,
            }
            for day in (2, 9)
        ],
        "strata": None,
        "circumstances": {
            "overlapping": [
                {
                    "experiment": "birthday:3",
                    "share": 0.12,
                    "p_value": 0.4,
                    "interaction": [{"arm": "double-points", "p_adjusted": 0.31}],
                }
            ],
            "calendar": [],
        },
    }


def _times(n: int, curve: list[list[float]]) -> dict[str, Any]:
    points = [
        {"day": day, "away": away, "low": away - 0.01, "high": away + 0.01, "at_risk": round(n * away)}
        for day, away in curve
        if day in (1, 7, 14, 30)
    ]
    risk = [[day, round(n * away)] for day, away in curve]
    events = round(n * (1 - curve[-1][1]))
    return {"n": n, "events": events, "median_days": None, "points": points, "curve": curve, "risk": risk}


def _effect(segment: str, difference: float, *, group: str = "unknown") -> dict[str, Any]:
    return {
        "segment": segment,
        "group": group,
        "n_arm": 600,
        "n_control": 610,
        "difference": difference,
        "low": difference - 0.03,
        "high": difference + 0.03,
        "p_value": 0.02,
        "p_adjusted": 0.04,
    }


def _segments(feature: str, arm: str, effects: list[dict[str, Any]], *, q: float, p: float) -> dict[str, Any]:
    return {
        "feature": feature,
        "metric": "repurchase",
        "arm": arm,
        "q": q,
        "df": len(effects) - 1,
        "p_value": p,
        "p_adjusted": p,
        "differ": p < 0.05,
        "best": "gold" if p < 0.05 else None,
        "effects": effects,
        "uplift": None,
    }
