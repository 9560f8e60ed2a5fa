"""Decides an experiment by the rule, records the decision with its evidence, and gives the feedback it calls for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from experiments.decide import decide
from experiments.evidence import Evidence, Reason, Verdict
from experiments.gates import FLOOR_PER_ARM, planned_customers
from experiments.sequential import LookPlan, due_look
from flows.steps.compare_outcomes import monitor_results
from flows.steps.holdback import decide_holdback, find_promoted
from flows.steps.measure_experiment import Measurement, measure_experiment
from flows.steps.write_back_decision import Feedback, give_feedback
from warehouse.ledger.results import DecisionRow, LookRow, append_decision, decisions, looks, record_look

if TYPE_CHECKING:
    from experiments.design import Design
    from flows.wiring import Workspace

FINAL_VERDICTS: Final = ("promote", "stop_harm", "inconclusive", "invalid", "review", "demote")
"""Verdicts that the rule does not go back on by itself once the last planned look is taken."""


@dataclass(frozen=True)
class Decided:
    """A decision as recorded, what it was made from, and what it changed."""

    measurement: Measurement
    verdict: Verdict
    row: DecisionRow
    feedback: Feedback
    decided_before: bool

    def to_json(self) -> dict[str, Any]:
        """What `retain decide --json` prints."""
        return {
            "campaign": self.measurement.design.campaign,
            "experiment": self.measurement.design.experiment_id,
            "as_of": self.measurement.as_of.isoformat(),
            "decision": {
                "id": self.row.decision_id,
                "verdict": self.verdict.verdict,
                "arm": self.verdict.arm,
                "reasons": [asdict(reason) for reason in self.verdict.reasons],
                "expected_lift_raw": self.verdict.expected_lift_raw,
                "expected_lift_shrunk": self.verdict.expected_lift_shrunk,
                "expected_lift_low": self.verdict.expected_lift_low,
                "expected_lift_high": self.verdict.expected_lift_high,
                "rule_version": self.verdict.rule_version,
                "decided_before": self.decided_before,
                "decided_at": self.row.decided_at.isoformat(),
            },
            "measurement": self.measurement.to_json(),
            "feedback": self.feedback.mode,
            "diff": self.feedback.diff,
            "feedback_problem": self.feedback.problem or None,
            "patch_file": None if self.feedback.patch_file is None else str(self.feedback.patch_file),
            "changed_files": [str(path) for path in self.feedback.changed_files],
        }


def decide_experiment(ws: Workspace, campaign: str, *, now: datetime) -> Decided:
    """Measure and decide. A look is spent only when it is due; a final decision is given again, not taken again.

    A promoted arm is judged against its holdback: kept or demoted. Raises ExperimentError where the campaign has no
    experiment yet.
    """
    measurement = measure_experiment(ws, campaign, now=now)
    design = measurement.design
    with ws.ledger.read() as tx:
        taken = looks(tx, design.experiment_id)
        before = decisions(tx, design.experiment_id)
    last = before[-1] if before else None
    if last is not None and _is_final(last, taken, design):
        return _again(ws, measurement, last, now=now)
    plan = due_look(design, information=_information(measurement), looks_done=_last_look(taken))
    evidence = _evidence(measurement, plan, taken)
    promoted = find_promoted(ws, design)
    verdict = decide(evidence) if promoted is None else decide_holdback(evidence, promoted, due=plan.due)
    if last is not None and (last.verdict, verdict.verdict) == ("keep", "keep_measuring"):
        return _again(ws, measurement, last, now=now)
    row = _record(ws, measurement, verdict, plan, now=now)
    feedback = give_feedback(ws, measurement, verdict, decided_at=row.decided_at, now=now)
    return Decided(measurement, verdict, row, feedback, False)


def _again(ws: Workspace, measurement: Measurement, last: DecisionRow, *, now: datetime) -> Decided:
    """The decision that was taken, with the feedback it calls for."""
    verdict = read_verdict(last.evidence["verdict"])
    feedback = give_feedback(ws, measurement, verdict, decided_at=last.decided_at, now=now)
    return Decided(measurement, verdict, last, feedback, True)


def _record(ws: Workspace, measurement: Measurement, verdict: Verdict, plan: LookPlan, *, now: datetime) -> DecisionRow:
    experiment_id = measurement.design.experiment_id
    with ws.ledger.begin() as tx:
        if plan.due:
            record_look(tx, experiment_id, plan.look, at=now, information=plan.information)
        return append_decision(
            tx,
            experiment_id,
            decided_at=now,
            verdict=verdict.verdict,
            arm=verdict.arm,
            rule_version=verdict.rule_version,
            evidence={"verdict": verdict.to_json(), "measurement": measurement.to_json(), "look": plan._asdict()},
        )


def read_verdict(data: dict[str, Any]) -> Verdict:
    """A verdict as `Verdict.to_json` wrote it."""
    reasons = tuple(Reason(**reason) for reason in data["reasons"])
    return Verdict(**{**data, "reasons": reasons})


def _is_final(last: DecisionRow, taken: list[LookRow], design: Design) -> bool:
    """Whether the last decision was taken at the last planned look, or stopped the experiment before it."""
    stopped = last.verdict in ("promote", "stop_harm", "demote")
    return last.verdict in FINAL_VERDICTS and (stopped or _last_look(taken) >= design.looks)


def _last_look(taken: list[LookRow]) -> int:
    return max((look.look for look in taken), default=0)


def _information(measurement: Measurement) -> float:
    """The matured share of the planned information: of the planned size, else of everybody assigned so far.

    Without a planned size a handful of customers is no information either: the engine's floor per arm is the plan.
    """
    design = measurement.design
    arms = [name for name, weight in design.weights if weight > 0]
    assigned, mature = _counts(measurement)
    smallest = min((mature.get(arm, 0) for arm in arms), default=0)
    if design.planned_n:
        planned = planned_customers(design, mature, planned_n=design.planned_n)
        return min(1.0, planned.matured / planned.needed)
    everybody = sum(assigned.values())
    matured = sum(mature.values()) / everybody if everybody else 0.0
    return min(matured, smallest / FLOOR_PER_ARM)


def _counts(measurement: Measurement) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Assigned and mature per arm, in what the sizes were planned in: customers, or households (not their members)."""
    collected = measurement.collected
    if measurement.design.unit == "household":
        return collected.units, collected.mature_units
    return collected.assigned, collected.mature


def _evidence(measurement: Measurement, plan: LookPlan, taken: list[LookRow]) -> Evidence:
    collected = measurement.collected
    assigned, mature = _counts(measurement)
    reached = {arm: c.reached / c.assigned for arm, c in collected.tallies.items() if c.assigned}
    cost = {arm: c.cost_micros / 1e6 / c.assigned for arm, c in collected.tallies.items() if c.assigned}
    return Evidence(
        design=measurement.design,
        results=measurement.results,
        assigned=assigned,
        mature=mature,
        look=plan.look,
        looks_done=_last_look(taken),
        information=plan.information,
        health=measurement.health,
        delivered={arm: share for arm, share in reached.items() if arm != measurement.design.control},
        margin=measurement.margin or (),
        arm_cost=cost,
        past_information=tuple(look.information for look in taken),
        monitor=tuple(monitor_results(measurement.design, collected)),
        prior_sd=None if measurement.prior is None else measurement.prior.sd,
    )
