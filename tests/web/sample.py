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
