"""After a promotion: the winner against its holdback, measured by the same engine, kept or demoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from experiments import gates
from experiments.decide import INVALIDATING
from experiments.evidence import Evidence, Reason, Verdict, VerdictName
from experiments.holdback import judge_holdback
from warehouse.ledger.experiments import experiments
from warehouse.ledger.results import decisions

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.wiring import Workspace

_GOES_ON: Final = (None, "keep", "keep_measuring")
"""Last verdicts of an epoch that leave an earlier promotion in force."""


def find_promoted(ws: Workspace, design: Design) -> str | None:
    """The arm that an earlier epoch promoted and that this one goes on with, alone against control; None elsewhere."""
    treated = [arm for arm, weight in design.weights if arm != design.control and weight > 0.0]
    if len(treated) != 1:
        return None
    with ws.ledger.read() as tx:
        earlier = [row for row in experiments(tx, design.campaign) if row.epoch < design.epoch]
        for row in sorted(earlier, key=lambda row: -row.epoch):
            taken = decisions(tx, row.experiment_id)
            verdict = taken[-1].verdict if taken else None
            if verdict == "promote":
                return taken[-1].arm if taken[-1].arm == treated[0] else None
            if verdict not in _GOES_ON:
                return None
    return None


def decide_holdback(evidence: Evidence, arm: str, *, due: bool) -> Verdict:
    """Keep or demote at a planned look; on any other day only harm demotes, and everything else is measured on.

    An experiment whose split is broken is invalid here too; what must be judged by somebody goes to review.
    """
    integrity = gates.integrity(evidence)
    alarms = gates.harm_alarms(evidence)
    broken = [reason.code for reason in integrity if reason.passed is False]
    reasons = [*integrity, *alarms]
    if any(code in INVALIDATING for code in broken):
        return _verdict("invalid", None, reasons, evidence)
    if alarms:
        return _verdict("demote", arm, reasons, evidence)
    reasons += gates.maturity(evidence)
    if not due:
        return _verdict("keep_measuring", arm, reasons, evidence)
    judged = judge_holdback(evidence.design, evidence.results, arm=arm)
    reasons += judged.reasons
    return _verdict("review" if broken else judged.verdict, arm, reasons, evidence)


def _verdict(name: VerdictName, arm: str | None, reasons: list[Reason], evidence: Evidence) -> Verdict:
    lift = gates.improvement(evidence.result(evidence.design.primary, arm or ""))
    return Verdict(verdict=name, arm=arm, reasons=tuple(reasons), expected_lift_raw=lift)
