"""Prints the other readings of a measurement: survival, strata, the reached, segments, posteriors, circumstances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retain.printing import cell, percent, print_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping


DIFFERS: Final = 0.01
"""Adjusted p from which on an interaction is worth a line."""


def show_views(measured: Mapping[str, Any]) -> None:
    """Print what there is; nothing of a reading that the experiment does not have."""
    _show_survival(measured["survival"])
    for row in measured["stratified"]:
        if row["metric"] == measured["primary"] and row["difference"] is not None:
            say(f"{row['arm']}: {row['metric']} {row['difference']:+.4g} put together over {row['strata']} runs")
    for row in measured["cace"]:
        if row["metric"] == measured["primary"] and row["effect"] is not None:
            reached = f"{percent(row['reached'])} of its customers were reached"
            say(f"{row['arm']}: {reached}, {row['metric']} of these {row['effect']:+.4g}")
    for report in measured["segments"]:
        _show_segments(report)
    if measured["bayesian"]:
        columns = ("arm", "prior", "mean", "chance to beat control", "loss of arm", "loss of control")
        keys = ("mean", "chance_to_beat_control", "loss_of_arm", "loss_of_control")
        rows = [(row["arm"], row["prior"], *(row[key] for key in keys)) for row in measured["bayesian"]]
        print_table(columns, rows)
    _show_capped(measured.get("winsorised"))
    _show_circumstances(measured["circumstances"])
    show_redemptions(measured.get("redemptions"))


def _show_survival(survival: Mapping[str, Any] | None) -> None:
    if survival is None:
        return
    for row in survival["rmst"]:
        if row["difference"] is not None:
            days = f"{row['difference']:+.2f} days until the next purchase within {survival['horizon_days']:g}"
            say(f"{row['arm']}: {days} (p = {cell(row['p_adjusted'])})")


def _show_capped(capped: Mapping[str, Any] | None) -> None:
    if capped is None:
        return
    for row in capped["results"]:
        if row["difference"] is not None:
            cap = f"capped at {cell(capped['caps'][row['metric']])}"
            say(f"{row['arm']}: {row['metric']} {row['difference']:+.4g} {cap} (p = {cell(row['p_adjusted'])})")


def _show_segments(report: Mapping[str, Any]) -> None:
    differ = "differ" if report["differ"] else "do not differ by more than chance"
    say(f"{report['arm']}: effects by {report['feature']} {differ} (p = {cell(report['p_adjusted'])})")
    if report["differ"]:
        rows = [
            (effect["segment"], effect["n_arm"] + effect["n_control"], effect["difference"], effect["group"])
            for effect in report["effects"]
        ]
        print_table((report["feature"], "customers", "difference", "group"), rows)


def _show_circumstances(circumstances: Mapping[str, Any]) -> None:
    for other in circumstances["overlapping"]:
        say(
            f"{other['experiment']} treated {percent(other['share'])} of these customers at the same time "
            f"(p of dependence {cell(other['p_value'])})"
        )
        for row in other.get("interaction", ()):
            if row["p_adjusted"] is not None and row["p_adjusted"] <= DIFFERS:
                say(f"{row['arm']}: the effect differs among those whom {other['experiment']} treated")
    for event in circumstances["calendar"]:
        say(f"in the window: {event['name']}, {event['from']} to {event['to']}")


def show_redemptions(redemptions: Mapping[str, Any] | None) -> None:
    """Print what became of the offers, and say whether codes are in the hands of those they were not for."""
    if not redemptions or not redemptions["offers"]:
        return
    columns = ("offer", "arm", "offered", "redeemed", "orders", "expected cost", "actual cost", "charged")
    keys = ("offer", "arm", "offered", "redeemed", "orders", "expected_cost", "actual_cost", "charged")
    print_table(columns, [[cell(row[key]) for key in keys] for row in redemptions["offers"]])
    late = sum(row["late"] for row in redemptions["offers"])
    if late:
        say(f"{late:,} orders bear a code whose offer had ended: the shop still takes it")
    if redemptions["leaks"]:
        leaks = ", ".join(f"{arm} {n:,}" for arm, n in redemptions["leaks"].items())
        share = percent(redemptions["leaked_share"])
        say(f"codes used by customers whom they were not for: {leaks} ({share} of the orders with a code)")
